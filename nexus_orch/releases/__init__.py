"""What is known about the releases of vLLM: one place for each fact, with its bounds and the source it was read from.

Planner, adapters, judge, loaders, plugins and documents ask here; no other module compares versions (a test sees to
it). A fact that one setting alone needs may stand in the table of settings (`nexus_orch.adapt.settings`).

- `known`: which releases were read, and which of them lie around a version
- `fact`: the record of one fact
- `engine`: generations of the engine, its two model runners, how it is started
- `host_ram`: weights and KV blocks that wait in host RAM
- `memory`: how memory is accounted for
- `allocator`: PyTorch and what its allocators are told
- `models`: formats, types of the KV cache, layers over stages
"""

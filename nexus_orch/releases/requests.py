"""What a server takes and tells with a request."""

from __future__ import annotations

from nexus_orch.releases.fact import Fact

returns_token_ids = Fact(
    "streams tell the ids of prompt and tokens on request",
    since="0.10.2",
    source="entrypoints/openai/protocol.py: return_token_ids",
)

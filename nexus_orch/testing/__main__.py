"""`python -m nexus_orch.testing serve MODEL ...`: a fake `vllm serve`; NEXUS_FAKE says how it behaves.

`python -m nexus_orch.testing bench serve --base-url URL ...` measures one.
"""

import os
import sys

from nexus_orch.testing import bench, server

if __name__ == "__main__":
    program = bench if sys.argv[1:3] == ["bench", "serve"] else server
    sys.exit(program.main(sys.argv[1:], os.environ))

"""`python -m nexus_orch.testing serve MODEL ...`: a fake `vllm serve`; NEXUS_FAKE says how it behaves."""

import os
import sys

from nexus_orch.testing.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

"""How a release of vLLM counts and allocates."""

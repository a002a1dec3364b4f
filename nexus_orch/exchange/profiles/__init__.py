"""A start of vLLM to a profile of ours."""

"""What the adapters share: how each release of vLLM takes each setting, and what it refuses. Pure."""

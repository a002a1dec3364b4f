"""Facts about the releases of vLLM."""

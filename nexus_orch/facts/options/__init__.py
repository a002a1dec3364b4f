"""The options of `vllm serve`, read from sources."""

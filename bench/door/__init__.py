"""The front door against a direct connection: time to the first token, tokens per second, memory of who waits."""

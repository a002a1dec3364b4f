"""The engine's output, from its bytes to a file and lines."""

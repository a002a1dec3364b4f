"""Cards and host."""

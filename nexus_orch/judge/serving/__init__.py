"""A server that is short of memory."""

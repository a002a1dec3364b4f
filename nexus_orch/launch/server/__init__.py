"""The server that an engine becomes: its port, and how it is asked."""

"""The processes of an engine, from their start to their end."""

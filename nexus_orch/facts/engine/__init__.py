"""The installed engine."""

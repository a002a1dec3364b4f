"""How something is installed: steps, journal, lock, progress."""

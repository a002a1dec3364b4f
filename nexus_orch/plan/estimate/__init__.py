"""A run drawn: its memory, its speed, its host RAM."""

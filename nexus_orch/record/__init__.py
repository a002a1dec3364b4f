"""What a run leaves behind: its folder with an append-only journal, and the history of all runs."""

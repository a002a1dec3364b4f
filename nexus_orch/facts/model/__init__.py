"""Model folders and their files."""

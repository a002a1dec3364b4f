"""A plan to a file that others run."""

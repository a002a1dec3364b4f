"""A small shell that runs nothing: it reads a script, follows its conditions, and gives the commands that it would
run."""

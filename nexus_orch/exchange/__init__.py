"""Commands, files and settings of others to profiles of ours, and plans of ours to files that others run. Pure."""

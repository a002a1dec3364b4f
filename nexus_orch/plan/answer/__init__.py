"""What is told about the run that was taken."""

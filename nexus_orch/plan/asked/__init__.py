"""What was asked for, and what is true."""

"""What was measured, and when it holds."""

"""Many runs after another: one line for each point, and a table of them at the end."""

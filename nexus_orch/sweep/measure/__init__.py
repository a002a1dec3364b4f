"""How fast a running server is, and whether it holds: measured from outside, as its clients see it."""

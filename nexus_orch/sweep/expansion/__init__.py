"""From a grid of values to points, each with what the plan says of it."""

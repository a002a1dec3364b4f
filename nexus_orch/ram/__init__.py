"""RAM before the launch: weight files read into the page cache, and the RAM of the run tried out. Edge code."""

"""Simulated machines for the search of a sweep: measured tables, residuals by seed, and traps."""

"""Observations to a verdict."""

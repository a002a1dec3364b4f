"""Benchmarks: each module checks one speed goal against a yardstick measured in the same run."""

"""What the tests of a sweep search in."""

BASE = ("hardware=rtx4090", "model=qwen14b", "memory=hybrid", "engine.version=0.32.0")

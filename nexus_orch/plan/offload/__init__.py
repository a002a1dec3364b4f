"""Which weights leave a card, in the grain in which vLLM's offloaders move them. Pure maths for loaders."""

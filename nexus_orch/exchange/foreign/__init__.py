"""Files and commands of others: the starts of vLLM in them."""

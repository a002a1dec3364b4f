"""Facts: what is true about the model, the machine and the engine. Edge code: it reads, it decides nothing."""

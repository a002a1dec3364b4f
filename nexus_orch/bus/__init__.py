"""The bus between host RAM and the cards, measured by the engine's own PyTorch."""

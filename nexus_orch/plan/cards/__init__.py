"""How the model is divided among the cards."""

"""What a model is: architectures, tensors, weight formats."""

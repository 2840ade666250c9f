"""Training: objective, optimizer steps, moving averages of the weights, validation loss."""

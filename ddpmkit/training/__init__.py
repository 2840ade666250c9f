"""Training: optimizer steps, the average of the weights, the validation loss."""

"""Evaluation: metrics over real and generated images, what they cost, and how far real images are from themselves."""

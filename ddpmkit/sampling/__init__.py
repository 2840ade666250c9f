"""Sampling: images from a network, and pictures of how they came about."""

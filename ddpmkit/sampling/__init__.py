"""Generating images from a network: batches, editing modes, grids and visualizations."""

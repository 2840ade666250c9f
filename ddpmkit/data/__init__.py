"""Training data: batches of images from a dataset, and the download of AFHQ."""

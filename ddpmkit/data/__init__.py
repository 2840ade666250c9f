"""Data: from stored pictures to training batches, and archives from the network."""

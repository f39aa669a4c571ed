"""Embeddings of all images of a source, with ids and labels: how they are computed, resumed and written to a file."""

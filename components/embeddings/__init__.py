"""Embeddings of all images of a source, with ids and labels, as one file: how they are computed, resumed and written."""

"""Measurements of the training speed of this machine and of its limits (`nnclr bench`)."""

"""Keras layers that are faster than Keras' own, or that compute the same on any number of devices."""

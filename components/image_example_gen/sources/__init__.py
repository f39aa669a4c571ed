"""The kinds of sources that images are read from: one module per kind, and `opening` with the list of them.

The settings and the command line quote that list, so these modules import NumPy, Beam and TensorFlow only inside the
functions that need them.
"""

"""The splits of a data set. A module of its own, so that naming a split does not import TensorFlow."""

UNLABELLED = "unlabelled"
TRAIN = "train"
TEST = "test"
SPLITS = (UNLABELLED, TRAIN, TEST)

# The label of an image in the split `unlabelled`.
NO_LABEL = -1

"""STL-10's binary layout: names, shapes and byte order of the files in its archive.

`*_X.bin` contains uint8 images one after another, each as three planes (red, green, blue) of 96x96 values in
column-major order. `*_y.bin` contains uint8 labels 1..10 in the order of `class_names.txt`. `fold_indices.txt` contains
ten lines of indices, counted from 0, into the training images (https://cs.stanford.edu/~acoates/stl10/).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIZE = 96
IMAGE_BYTES = 3 * SIZE * SIZE
CLASSES = 10
FOLDS = 10

UNLABELLED_IMAGES = "unlabeled_X.bin"
TRAIN_IMAGES, TRAIN_LABELS = "train_X.bin", "train_y.bin"
TEST_IMAGES, TEST_LABELS = "test_X.bin", "test_y.bin"
FOLD_INDICES = "fold_indices.txt"
CLASS_NAMES = "class_names.txt"

FILES = (UNLABELLED_IMAGES, TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS, FOLD_INDICES, CLASS_NAMES)


def decode_images(stored: bytes) -> "np.ndarray":
    """Converts the bytes of whole images to uint8 [N, height, width, 3]."""
    import numpy as np

    planes = np.frombuffer(stored, np.uint8).reshape(-1, 3, SIZE, SIZE)
    images = np.empty((len(planes), SIZE, SIZE, 3), np.uint8)
    # Copying plane by plane takes a third of the time of one transposed copy.
    for image, (red, green, blue) in zip(images, planes, strict=True):
        image[..., 0], image[..., 1], image[..., 2] = red.T, green.T, blue.T
    return images


def encode_images(images: "np.ndarray") -> bytes:
    """Converts uint8 [N, height, width, 3] to the bytes that `decode_images` reads."""
    import numpy as np

    return np.ascontiguousarray(images.transpose(0, 3, 2, 1)).tobytes()

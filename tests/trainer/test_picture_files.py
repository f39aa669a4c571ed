"""A released encoder sees the pixels of a picture file that ingest trained it on."""

import numpy as np
import pytest
import tensorflow as tf

from components.image_example_gen import decoding
from tests.picture_files import NOT_SERVED, every_form
from trainer import picture_files

# As in a SavedModel, where nothing runs eagerly.
decode = tf.function(picture_files.decode, input_signature=[tf.TensorSpec([], tf.string)])


def test_every_form_is_decoded_to_the_pixels_that_ingest_takes():
    for name, content in every_form().items():
        if name in NOT_SERVED:
            continue
        expected = decoding.decode_file(content)
        found = decode(content).numpy()
        assert (found.dtype, found.shape) == (np.uint8, (40, 40, 3)), name
        # The decoders of JPEG round differently.
        tolerance = 4 if name.startswith("jpeg") else 0
        np.testing.assert_allclose(found.astype(int), expected, atol=tolerance, err_msg=name)


def test_what_tensorflow_cannot_decode_is_refused_and_never_decoded_wrongly():
    files = every_form()
    for name in NOT_SERVED:
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"convert the picture to PNG|Unknown image file format"
        ):
            decode(files[name])
    for cut in (b"", b"BM", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8X"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(cut)

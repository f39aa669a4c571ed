"""Decodes picture files inside TensorFlow's graph, to the pixels that ingest takes from the same files."""

import tensorflow as tf

# The first bytes of a file, which hold all that is read from the headers of WebP and BMP files.
_HEADER = 64
_ANIMATED = 0x02
_UNCOMPRESSED, _BIT_FIELDS = 0, 3
_REFUSED = (
    "TensorFlow decodes neither animated WebP files nor BMP files that are compressed or have other than 8, 24 or 32 "
    "bits a pixel: convert the picture to PNG or JPEG, or embed it with the release's MLflow model."
)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP, GIF or WebP file.

    Grey becomes three equal channels, an alpha channel is dropped, 16 bits are scaled to 8, and the first of several
    frames is taken. Animated WebP files are refused: TensorFlow 2.21 decodes four channels of each frame, also into the
    memory of three.

    Args:
        encoded: The file's bytes, a scalar string.

    Returns:
        Pixels, uint8 [height, width, 3].

    Raises:
        tf.errors.InvalidArgumentError: If the file cannot be decoded.
    """
    # Short files are filled up, so that every position exists.
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), "\0" * _HEADER])
    header = tf.io.decode_raw(padded, tf.uint8)[:_HEADER]
    is_webp, is_bmp = _has(header, 8, b"WEBP"), _has(header, 0, b"BM")
    is_animated_webp = is_webp & _has(header, 12, b"VP8X") & (header[20] & _ANIMATED > 0)
    bits, compression = header[28], header[30]
    is_common_bmp = _is_one_of(bits, (8, 24, 32)) & _is_one_of(compression, (_UNCOMPRESSED, _BIT_FIELDS))
    with tf.control_dependencies([tf.debugging.Assert(~is_animated_webp & (~is_bmp | is_common_bmp), [_REFUSED])]):
        encoded = tf.identity(encoded)
    return tf.case(
        [(is_webp, lambda: _decode_webp(encoded)), (is_bmp & (bits == 8), lambda: _decode_palette(encoded, header))],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def _has(header: tf.Tensor, position: int, expected: bytes) -> tf.Tensor:
    return tf.reduce_all(header[position : position + len(expected)] == list(expected))


def _is_one_of(value: tf.Tensor, expected: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == list(expected))


def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    # With channels=3, TensorFlow refuses files with an alpha channel.
    return tf.io.decode_image(encoded, expand_animations=False)[:, :, :3]


def _decode_palette(encoded: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    """Looks up the colours of a BMP file with 8 bits a pixel, which TensorFlow takes for shades of grey."""
    pixels_start, header_size = (tf.bitcast(header[at : at + 4], tf.int32) for at in (10, 14))
    start = 14 + header_size
    palette = tf.io.decode_raw(tf.strings.substr(encoded, start, pixels_start - start), tf.uint8)
    indexes = tf.io.decode_image(encoded, expand_animations=False)[:, :, 0]
    # The palette's bytes are blue, green, red and one that is unused.
    return tf.gather(tf.reshape(palette, [-1, 4]), tf.cast(indexes, tf.int32))[:, :, 2::-1]

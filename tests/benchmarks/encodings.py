"""Which encoding of the image bytes is read fastest for training: raw, PNG or JPEG.

python -m tests.benchmarks.encodings [STL10_DIR]

Writes the same 2,000 images (of the embedded sample, unless a directory in STL-10's layout is given) as TFRecords in
each encoding and reads batches of 250 decoded images, in turn, on all cores, from a warm page cache. Prints images/s
(median of 5 rounds), bytes an image, and the ratio to raw.
"""

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_example_gen.sources.opening import open_source
from pipeline.data import sample
from trainer import splits

_IMAGES, _BATCH, _ROUNDS = 2_000, 250, 5


def _compressed(image: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "raw": lambda image: np.ascontiguousarray(image).tobytes(),
    "PNG": lambda image: _compressed(image, "PNG"),
    "JPEG, quality 95": lambda image: _compressed(image, "JPEG", quality=95),
}


def _batches(path: str, encoding: str, size: tuple[int, int]) -> tf.data.Dataset:
    records = tf.data.TFRecordDataset(path)
    if encoding == "raw":
        return records.batch(_BATCH).map(
            lambda batch: tf.reshape(tf.io.decode_raw(batch, tf.uint8), [-1, *size, 3]), tf.data.AUTOTUNE
        )
    return records.map(lambda record: tf.io.decode_image(record, expand_animations=False), tf.data.AUTOTUNE).batch(
        _BATCH
    )


def main() -> None:
    """Measures and prints a table."""
    with tempfile.TemporaryDirectory() as aside:
        if len(sys.argv) > 1:
            source = open_source(sys.argv[1])
        else:
            drawn = Path(aside) / "sample"
            sample.write_sample(drawn, counts={"unlabelled": _IMAGES, "train": 10, "test": 10})
            source = open_source(str(drawn))
        (work,) = (w for w in source.work(_IMAGES) if (w.split, w.first) == (splits.UNLABELLED, 0))
        images = [np.asarray(picture.content) for picture in source.read(work)]
        paths, sizes = {}, {}
        for encoding, encode in _ENCODERS.items():
            paths[encoding] = f"{aside}/{encoding}"
            encoded = [encode(image) for image in images]
            sizes[encoding] = sum(map(len, encoded)) / len(encoded)
            with tf.io.TFRecordWriter(paths[encoding]) as writer:
                for record in encoded:
                    writer.write(record)
        rates: dict[str, list[float]] = {encoding: [] for encoding in _ENCODERS}
        for _ in range(_ROUNDS + 1):
            for encoding, path in paths.items():
                start = time.perf_counter()
                count = sum(len(batch) for batch in _batches(path, encoding, images[0].shape[:2]))
                rates[encoding].append(count / (time.perf_counter() - start))
        raw = statistics.median(rates["raw"][1:])
        for encoding, measured in rates.items():
            rate = statistics.median(measured[1:])
            print(f"{encoding:17} {rate:8,.0f} images/s {sizes[encoding]:8,.0f} bytes {rate / raw:6.3f} of raw")


if __name__ == "__main__":
    main()

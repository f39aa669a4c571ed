"""Small training data as TFRecords, and strategies over logical devices."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

_key_bases = itertools.count(start=0, step=1_000_000)


def fresh_collectives() -> None:
    """Strategies of different width in one process need keys of their own, or their collectives fail or hang."""
    tf.distribute.MirroredStrategy._collective_key_base = next(_key_bases)


def mirrored(devices: list[str]) -> tf.distribute.MirroredStrategy:
    """A strategy over logical devices."""
    fresh_collectives()
    return tf.distribute.MirroredStrategy(devices)


@pytest.fixture(scope="session")
def tfrecords(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Blobs whose colour tells their class: 96 unlabelled and 40 labelled images of 32 x 32, in two shards each."""
    from components.image_example_gen.encoding import to_example
    from components.image_example_gen.sources.base import Picture

    directory = tmp_path_factory.mktemp("tfrecords")
    rng = np.random.default_rng(0)
    files: dict[str, list[str]] = {}
    for split, count in (("unlabelled", 96), ("train", 40)):
        files[split] = [str(directory / f"{split}-{shard}") for shard in range(2)]
        for shard, path in enumerate(files[split]):
            with tf.io.TFRecordWriter(path) as writer:
                for i in range(shard * count // 2, (shard + 1) * count // 2):
                    kind = i % 4
                    image = rng.integers(0, 60, (32, 32, 3))
                    image[8:24, 8:24] += np.array([[150, 0, 0], [0, 150, 0], [0, 0, 150], [150, 150, 0]][kind])
                    label = kind if split == "train" else -1
                    picture = Picture(split, i, f"{split}/{i:06d}", image.astype(np.uint8), label)
                    writer.write(to_example(picture, picture.content))
    return files


@pytest.fixture(scope="session")
def records(tfrecords, tmp_path_factory) -> str:
    """The test data in the layout of ImageExampleGen."""
    root = tmp_path_factory.mktemp("examples")
    for split in ("unlabelled", "train"):
        (root / f"Split-{split}").mkdir()
        for path in tfrecords[split]:
            (root / f"Split-{split}" / Path(path).name).write_bytes(Path(path).read_bytes())
    return str(root)


def write_relabelled(files: list[str], directory: Path, relabel) -> list[str]:
    """Copies TFRecords with other labels."""
    copies = []
    for path in files:
        copies.append(str(directory / Path(path).name))
        with tf.io.TFRecordWriter(copies[-1]) as writer:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                example = tf.train.Example.FromString(record)
                label = example.features.feature["label"].int64_list
                label.value[0] = int(relabel(label.value[0]))
                writer.write(example.SerializeToString())
    return copies

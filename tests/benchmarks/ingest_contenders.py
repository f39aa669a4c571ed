"""The contenders of `ingest`, each run once in a process of its own: python -m tests.benchmarks.ingest_contenders.

Arguments: contender, source (a directory in STL-10's layout or its .tar.gz), output directory. The last line of its
output is JSON: `ready` (time of day when everything was imported), `seconds` of work, `imported MiB`, `peak MiB` of the
largest process, and `bytes` written.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

OURS = "ours"


def ours(source: str, out: str) -> Callable[[], object]:
    """Ingest as the pipeline runs it, with the default Beam runner."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from components.image_example_gen.config import IngestSettings
    from components.image_example_gen.ingest import ingest
    from components.image_example_gen.sources.opening import open_source
    from pipeline.config import Settings

    options = PipelineOptions(Settings().beam_pipeline_args())
    return lambda: ingest(
        open_source(source), "0" * 32, IngestSettings(image_size=96), out, lambda: beam.Pipeline(options=options)
    )


def loop(source: str, out: str) -> Callable[[], object]:
    """One thread, one file a split, no Beam, and no code of ours but the names of the features.

    It takes the labels' files as they come in a first pass, and skips every check.
    """
    import tarfile

    import numpy as np
    import tensorflow as tf

    def members():
        if Path(source).is_dir():
            for path in sorted(Path(source).iterdir()):
                with open(path, "rb") as file:
                    yield path.name, file
        else:
            with tarfile.open(source, "r|gz") as archive:
                for member in archive:
                    if member.isreg():
                        yield member.name.rpartition("/")[2], archive.extractfile(member)

    def ints(*values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def texts(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def floats(value):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    def work():
        small = {name: file.read() for name, file in members() if not name.endswith("_X.bin")}
        folds: dict[int, list[int]] = {}
        for fold, line in enumerate(small["fold_indices.txt"].decode().splitlines()):
            for index in line.split():
                folds.setdefault(int(index), []).append(fold)
        for name, file in members():
            if not name.endswith("_X.bin"):
                continue
            split = {"unlabeled": "unlabelled"}.get(name[:-6], name[:-6])
            labels = small.get(f"{name[:-6]}_y.bin")
            with tf.io.TFRecordWriter(f"{out}/{split}") as writer:
                index = 0
                while stored := file.read(3 * 96 * 96):
                    image = np.frombuffer(stored, np.uint8).reshape(3, 96, 96).transpose(2, 1, 0)
                    values = image.astype(np.float32) / 255
                    features = {
                        "image": texts(image.tobytes()),
                        "height": ints(96),
                        "width": ints(96),
                        "label": ints(labels[index] - 1 if labels else -1),
                        "id": texts(f"{split}/{index:06d}".encode()),
                        "fold": ints(*(folds.get(index, ()) if split == "train" else ())),
                        "pixel_mean": floats(values.mean()),
                        "pixel_std": floats(values.std()),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())
                    index += 1

    return work


def tfds(source: str, out: str) -> Callable[[], object]:
    """TFDS' own builder, generator and writer; in place of the download it is given the archive, or what is in it."""
    import tensorflow_datasets

    def given(manager, url):
        return str(Path(source).parent) if Path(source).is_dir() else manager.extract(source)

    tensorflow_datasets.download.DownloadManager.download_and_extract = given
    tensorflow_datasets.disable_progress_bar()
    # All it imports late, so that it does not count as work.
    import tensorflow  # noqa: F401

    builder = tensorflow_datasets.builder("stl10", data_dir=f"{out}/tfds", try_gcs=False)
    return lambda: builder.download_and_prepare(download_dir=f"{out}/downloads")


CONTENDERS = {OURS: ours, "loop": loop, "tfds": tfds}


def _peak() -> float:
    """MiB of the largest process: this one, or a child that has ended."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def main(name: str, source: str, out: str) -> None:
    """Runs one contender once."""
    work = CONTENDERS[name](source, out)
    ready, imported = time.time(), _peak()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    # What TFDS unpacked meanwhile is no result.
    written = [p for p in Path(out).rglob("*") if p.is_file() and p.relative_to(out).parts[0] != "downloads"]
    size = sum(path.stat().st_size for path in written)
    print()
    print(
        json.dumps({"ready": ready, "seconds": seconds, "imported MiB": imported, "peak MiB": _peak(), "bytes": size})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What ingest costs: ours, a plain loop that does the same work, and TFDS building its own `stl10` from the same files.

python -m tests.benchmarks.ingest [STL10_DIR] [--images 1000 10000] [--rounds 3] [--json FILE]

Reads the first images of a directory in STL-10's layout, or else draws smooth random textures with a little noise.
Every measurement is one fresh process (see `ingest_contenders`), contenders alternately; files are in the page cache,
and nobody waits for the disk. `--images 100000` needs 15 GB beside the temporary directory's other contents.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from components.image_example_gen import stl10
from pipeline.bench import report
from pipeline.bench.measuring import Figure, Table
from tests.benchmarks import ingest_contenders

_CHUNK = 500
_FOLDS = 10
# As contender and kind of source, in the order of the table: the first has the ratio 1.
_CONTENDERS = [(name, kind) for kind in ("directory", "archive") for name in ingest_contenders.CONTENDERS]


def tables(source: Path | None, counts: list[int], rounds: int) -> list[Table]:
    """Measures at each of `counts` images.

    Args:
        source: directory in STL-10's layout with enough images; None draws some.
        counts: of images in all three splits.
        rounds: fresh processes a contender and count.

    Raises:
        ValueError: the source has too few images.
        subprocess.CalledProcessError: a contender failed.
    """
    return [_table(source, images, rounds) for images in counts]


def _table(source: Path | None, images: int, rounds: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="nnclr-ingest-") as aside:
        sources = {"directory": Path(aside) / "stl10_binary", "archive": Path(aside) / "stl10_binary.tar.gz"}
        _write_directory(sources["directory"], images, source)
        with tarfile.open(sources["archive"], "w:gz", compresslevel=6) as archive:
            archive.add(sources["directory"], "stl10_binary")
        measured: dict[str, list[dict[str, float]]] = {f"{name}, {kind}": [] for name, kind in _CONTENDERS}
        for _ in range(rounds):
            for name, kind in _CONTENDERS:
                measured[f"{name}, {kind}"].append(_measure(name, sources[kind], aside))
        packed = sources["archive"].stat().st_size / images
    drawn = "images of a given directory" if source else "drawn images"
    table = Table(
        f"Ingest of {images:,} {drawn} of {stl10.SIZE}x{stl10.SIZE}",
        note=f"The archive has {packed:,.0f} bytes an image, of {stl10.IMAGE_BYTES:,} unpacked. Rates count the work "
        "alone; the peak is of a process that has also imported everything. Ours and the loop write the same records: "
        "raw pixels, label, folds, id, mean and deviation; TFDS writes PNG and label, and unpacks an archive first.",
    )
    ours = [name for name in measured if name.startswith(ingest_contenders.OURS)]
    base = {name.partition(", ")[2]: _median(measured[name], "seconds") for name in ours}
    for name, runs in measured.items():
        ratio = base[name.partition(", ")[2]] / _median(runs, "seconds")
        rates = [images / run["seconds"] for run in runs]
        table.figures.append(Figure.of(name, rates, "images/s", ratio, "ratio: to ours from the same kind of source"))
    for name, runs in measured.items():
        imports = f"imports alone: {_median(runs, 'imported MiB'):,.0f}"
        table.figures.append(Figure.of(f"peak memory: {name}", [r["peak MiB"] for r in runs], "MiB", note=imports))
    for name, runs in measured.items():
        table.figures.append(Figure.of(f"start and imports: {name}", [r["started"] for r in runs], "s"))
    for name, runs in measured.items():
        table.figures.append(Figure.of(f"written: {name}", [r["bytes"] / images for r in runs], "bytes/image"))
    return table


def _median(runs: list[dict[str, float]], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def _measure(name: str, source: Path, aside: str) -> dict[str, float]:
    """One run in a process of its own; what it wrote is deleted afterwards."""
    with tempfile.TemporaryDirectory(dir=aside) as out:
        start = time.time()
        command = [sys.executable, "-m", ingest_contenders.__name__, name, str(source), out]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
    return found | {"started": found["ready"] - start}


def _write_directory(directory: Path, images: int, source: Path | None) -> None:
    """STL-10's layout with `images` images: about a tenth for each of `train` and `test`."""
    directory.mkdir()
    labelled = images // 10
    rng = np.random.default_rng(0)
    for images_file, labels_file, count in (
        (stl10.UNLABELLED_IMAGES, None, images - 2 * labelled),
        (stl10.TRAIN_IMAGES, stl10.TRAIN_LABELS, labelled),
        (stl10.TEST_IMAGES, stl10.TEST_LABELS, labelled),
    ):
        with (
            open(directory / images_file, "wb") as file,
            open(source / images_file if source else os.devnull, "rb") as of,
        ):
            for start in range(0, count, _CHUNK):
                some = min(_CHUNK, count - start)
                stored = of.read(some * stl10.IMAGE_BYTES) if source else stl10.encode_images(_textures(some, rng))
                if len(stored) != some * stl10.IMAGE_BYTES:
                    raise ValueError(f"{source}/{images_file} has fewer than {count:,} images")
                file.write(stored)
        if labels_file:
            rng.integers(1, stl10.CLASSES + 1, count, np.uint8).tofile(directory / labels_file)
    folds = [rng.choice(labelled, labelled // 5, replace=False) for _ in range(_FOLDS)]
    (directory / stl10.FOLD_INDICES).write_text("".join(" ".join(map(str, fold)) + "\n" for fold in folds))
    (directory / stl10.CLASS_NAMES).write_text("".join(f"class{i}\n" for i in range(stl10.CLASSES)))


def _textures(count: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth random colours with noise of +-1 on them, so that they compress a little; uint8 [N, 96, 96, 3]."""
    size = stl10.SIZE
    coarse = rng.uniform(0, 255, (count, 8, 8, 3)).astype(np.float32)
    place = np.linspace(0, 7, size, dtype=np.float32)
    # Rows of linear interpolation between eight values.
    between = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(8, dtype=np.float32)))
    smooth = np.einsum("hi,nijc->nhjc", between, coarse, optimize=True)
    smooth = np.einsum("wj,nhjc->nhwc", between, smooth, optimize=True)
    noise = rng.integers(-1, 2, smooth.shape, np.int8)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, metavar="STL10_DIR")
    parser.add_argument("--images", nargs="+", type=int, default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    report.add_option(parser)
    given = parser.parse_args()
    report.finish(tables(given.source, given.images, given.rounds), given.json)


if __name__ == "__main__":
    main()

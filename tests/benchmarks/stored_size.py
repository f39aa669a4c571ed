"""What larger stored images cost and gain: disk, speed of ingest and training, and accuracy.

    python -m tests.benchmarks.stored_size [SOURCE] [--image-size 48] [--stored-size 128] [--epochs 10]

Without a source it draws photographs of 256 pixels with a texture whose class shows only in their detail.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_COUNTS = {"unlabelled": 3000, "train": 800, "test": 600}
_CLASSES, _SIDE = 8, 256


def draw(root: Path) -> None:
    """Draws pictures: a smooth background of random colours, under fine stripes whose direction is the class."""
    rows, columns = np.mgrid[0:_SIDE, 0 : _SIDE * 4 // 3]
    for split, count in _COUNTS.items():
        for number in range(count):
            rng = np.random.default_rng([number, len(split)])
            kind = number % _CLASSES
            angle = np.pi * (kind + rng.uniform(-0.2, 0.2)) / _CLASSES
            # A period of 12 to 16 pixels is barely visible when 256 pixels become 48.
            phase = 2 * np.pi / rng.uniform(12, 16) * (columns * np.cos(angle) + rows * np.sin(angle))
            colours = rng.integers(0, 256, (4, 5, 3), np.uint8)
            background = np.asarray(Image.fromarray(colours).resize(rows.shape[::-1], Image.Resampling.BICUBIC))
            picture = (
                background
                + (30 * np.sin(phase + rng.uniform(0, 6)))[..., None]
                + rng.normal(0, 8, rows.shape)[..., None]
            )
            folder = root / split / (f"direction-{kind}" if split != "unlabelled" else "")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=95)


def measure(source: Path, data: list[str], epochs: int, image_size: int, workdir: Path) -> dict[str, Any]:
    """Runs the pipeline with settings of the group `data`, and returns its figures."""
    settings = [f"data.image_size={image_size}", f"trainer.epochs={epochs}", *data]
    settings += ["evaluator.floor=null", "evaluator.beat_untrained=false"]
    settings += ["trainer.augmentation.crop_scale=[0.1, 1.0]", "trainer.encoder.pooling=average"]
    command = [sys.executable, "-m", "pipeline", "run", "--preset", "sample", "--data", str(source), "--json"]
    command += ["--workdir", str(workdir), *(part for setting in settings for part in ("--set", setting))]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    # 4: not blessed.
    assert process.returncode in (0, 4), process.stderr
    summary = json.loads(process.stdout)
    seconds = {component["id"]: component["seconds"] for component in summary["components"]}
    images = sum(summary["data"]["counts"].values())
    (examples,) = (workdir / "artifacts" / "ImageExampleGen" / "examples").iterdir()
    return {
        "KB a picture": sum(file.stat().st_size for file in examples.rglob("*") if file.is_file()) / images / 1000,
        "ingest, pictures/s": images / seconds["ImageExampleGen"],
        "training, images/s": summary["trainer"]["images_per_second"],
        "linear probe": 100 * summary["evaluation"]["probe_accuracy"],
        "kNN": 100 * summary["evaluation"]["knn_accuracy"],
    }


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--stored-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    stored = f"data.stored_size={arguments.stored_size}"
    contenders = {
        f"squares of {arguments.image_size}, raw": [],
        f"{arguments.stored_size}, raw": [stored],
        f"{arguments.stored_size}, jpeg": [stored, "data.encoding=jpeg"],
    }
    with tempfile.TemporaryDirectory() as aside:
        source = arguments.source or Path(aside) / "drawn"
        if arguments.source is None:
            start = time.monotonic()
            draw(source)
            print(f"drew {sum(_COUNTS.values())} pictures in {time.monotonic() - start:.0f} s", flush=True)
        for number, (name, data) in enumerate(contenders.items()):
            figures = measure(source, data, arguments.epochs, arguments.image_size, Path(aside) / f"run-{number}")
            if number == 0:
                print(f"{'':24}" + "".join(f"{title:>20}" for title in figures), flush=True)
            print(f"{name:24}" + "".join(f"{figure:>20.1f}" for figure in figures.values()), flush=True)


if __name__ == "__main__":
    main()

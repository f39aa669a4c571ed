"""Ingests a folder of 20,000 files as people have them, twice: what becomes of each, peak memory, and equal ids.

    python -m tests.benchmarks.mixed_folder [--files 20000]

Pictures of all formats, sizes and depths, in linked folders and with odd names, between hidden files, texts, damaged
pictures, decompression bombs and empty folders.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pillow_heif
import tensorflow as tf
from PIL import Image

_PICTURES = ("jpg", "JPEG", "png", "webp", "bmp", "gif", "tif", "avif", "heic", "jfif")
_OTHERS = (".DS_Store", "._a.png", "Thumbs.db", "notes.txt", "movie.mp4", "README", ".thumbs/a.png")
_FORMATS = {"jpeg": "JPEG", "jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "heic": "HEIF"}


def draw(root: Path, files: int) -> None:
    """Draws the folder: most files are pictures, every tenth one is something else."""
    pillow_heif.register_heif_opener()
    rng, numbers = random.Random(0), itertools.count()
    store = root.parent / "store"
    for folder in (root / "unlabelled", store, *(root / split / name for split in ("Train", "test") for name in "abc")):
        folder.mkdir(parents=True)
    (root / "unlabelled" / "linked").symlink_to(store)
    (root / "unlabelled" / "round").symlink_to(root)
    (root / "Train" / "empty").mkdir()
    folders = [root / "unlabelled", root / "unlabelled" / "2024" / "may", store, *(root / "Train").iterdir()]
    folders = [folder for folder in [*folders, *(root / "test").iterdir()] if folder.name != "empty"]
    for number in itertools.islice(numbers, files):
        folder = rng.choice(folders[:3] * 5 + folders[3:])
        folder.mkdir(parents=True, exist_ok=True)
        if number % 10 == 9:
            _other(folder, number, rng)
        else:
            _picture(folder, number, rng)


def _picture(folder: Path, number: int, rng: random.Random) -> None:
    ending = rng.choice(_PICTURES)
    # Every five-hundredth one is a photograph of 12 megapixels.
    width, height = (4000, 3000) if number % 500 == 0 else (rng.randint(20, 300), rng.randint(20, 300))
    pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    if ending == "png":
        image = image.convert(rng.choice(["L", "RGBA", "RGB", "P"]))
    name = rng.choice([f"{number}", f"é {number}", f"caf\udce9{number}", f"a\n{number}", f"%41*[{number}]"])
    image.save(os.fsencode(folder / f"{name}.{ending}"), format=_FORMATS.get(ending.lower(), ending.upper()))


def _other(folder: Path, number: int, rng: random.Random) -> None:
    match number // 10 % 4:
        case 0 | 1:
            path = folder / rng.choice(_OTHERS).replace("a.", f"{number}.").replace("notes", f"notes{number}")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"no picture")
        case 2:
            # A damaged picture.
            (folder / f"{number}.jpg").write_bytes(b"\xff\xd8\xff" + rng.randbytes(400))
        case _:
            # A few hundred bytes that become millions of pixels.
            Image.new("L", (60_000, 1)).save(folder / f"{number}.png")


def _ingest(root: Path, out: Path) -> dict:
    command = [sys.executable, "-m", "pipeline", "ingest", str(root), str(out), "--json"]
    command += ["--set", "data.image_size=48", "--set", "data.max_rejected=1000"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    seconds = time.monotonic() - started
    print(f"ingested in {seconds:.0f} s", flush=True)
    return json.loads(output)


def _ids(out: Path) -> list[str]:
    files = sorted(str(file) for file in out.glob("Split-*/*"))
    records = tf.data.TFRecordDataset(files).as_numpy_iterator()
    examples = (tf.train.Example.FromString(record) for record in records)
    return [example.features.feature["id"].bytes_list.value[0].decode() for example in examples]


def main() -> None:
    """Draws, ingests twice, and prints what became of the files."""
    import resource

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        root = Path(aside) / "mixed"
        draw(root, arguments.files)
        found = subprocess.run(
            ["find", "-L", root, "-type", "f", "-printf", "."], capture_output=True, text=True, check=False
        ).stdout
        results = [_ingest(root, Path(aside) / f"out-{number}") for number in range(2)]
        first, second = (_ids(Path(aside) / f"out-{number}") for number in range(2))
        dataset = results[0]
        ingested = sum(dataset["counts"].values())
        for reason, count in {"ingested": ingested, "rejected": dataset["rejected"], **dataset["left_out"]}.items():
            print(f"{count:>8,}  {reason}")
        no_files = sum(count for reason, count in dataset["left_out"].items() if reason.startswith("the "))
        print(f"{ingested + dataset['rejected'] + sum(dataset['left_out'].values()) - no_files:>8,}  files in all")
        print(f"{len(found):>8,}  files found by find")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB")
        print(f"the same ids twice: {first == second}; bytes equal: {results[0] == results[1]}")


if __name__ == "__main__":
    main()

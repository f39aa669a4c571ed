"""Fuzzing: what reads files or texts of users gets valid ones that were changed at random.

Each reader must then return a result, or end with one of nnclr's errors, which commands show as one sentence; within a
minute, and without much memory. `python -m tests.soak.fuzzing --minutes 60` tries all readers in turns.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from tests.soak.fault import Attempt, Fault, demand
from tests.soak.mutations import mutated
from tests.soak.scene import Scene

_TURN_SECONDS = 4.0
_LIMIT_SECONDS = 60
_LIMIT_KIB = 3 << 20
_SIZE = 32


@dataclass(frozen=True)
class Reader:
    """Something that reads a file, or a text, of a user.

    Attributes:
        seeds: Valid contents.
        use: Reads a content.
    """

    seeds: list[bytes]
    use: Callable[[bytes], object]


def readers(folder: Path, data: Path, model: Path) -> dict[str, Reader]:
    """Prepares the readers.

    Args:
        folder: An empty folder for files.
        data: Images in STL-10's layout.
        model: An encoder that nnclr exported.
    """
    return {
        "pictures": Reader(_pictures(), _decode),
        "STL-10 archives": Reader([_tar("w"), _tar("w:gz")], _through_source(folder / "archive" / "images.tar.gz")),
        "labels.csv": Reader([b"file,label,split\na.png,cat,train\n'b',\"dog, big\",\n"], _labels),
        "lists of exclusions": Reader([b"a.png\n./b/c.png\n", b'{"id": "a.png", "reason": "x"}\n'], _exclusions),
        "TFRecords": Reader([_records()], _through_source(folder / "records" / "train.tfrecord")),
        "examples in TFRecords": Reader([_example(), _example()], _through_records(folder / "examples")),
        "settings files": Reader(_settings(), _settings_file(folder / "config.yaml")),
        "values of --set": Reader(
            [b"trainer.epochs=2", b"trainer.optimizer={name: adam}", b"data.split={train: 0.5, test: 0.5}"], _override
        ),
        "durations": Reader([b"1.5 epochs", b"2h 30m", b"100 steps", b"50000 examples"], _durations),
        "cron expressions": Reader([b"0 3 * * 1", b"*/5 8-18 1,15 1-6 mon-fri"], _cron),
        "patterns of spans": Reader([b"x-{YYYY}-{MM}-{DD}", b"{SPAN}/v1"], _spans(folder / "weeks")),
        **_of_embeddings(folder, data, model),
        **_of_encoders(folder / "model", model),
        "checkpoints": _checkpoints(folder),
        "compiled pipelines": _package(folder),
        "states of schedules": _schedule(folder),
        "digests of files": _digests(folder),
    }


def fuzz(readers: dict[str, Reader], rng: random.Random, end: float, findings: Path) -> dict[str, dict[str, int]]:
    """Tries readers in turns until a time of the monotonic clock.

    Args:
        readers: The readers.
        rng: Decides on all changes.
        end: When to end.
        findings: The folder that receives each content that a reader did not withstand, with the error.

    Returns:
        For each reader how many contents were read, refused, and not withstood.

    Raises:
        Finding: If a reader does not read a valid content.
    """
    counts = {name: {"read": 0, "refused": 0, "findings": 0} for name in readers}
    for name, reader in readers.items():
        for seed in reader.seeds:
            outcome, text = _tried(reader, seed)
            demand(outcome == "read", f"{name}: a valid content is not read. {text}")
    known = set()
    while time.monotonic() < end:
        for name, reader in readers.items():
            turn = time.monotonic() + _TURN_SECONDS
            while time.monotonic() < min(turn, end):
                content = mutated(rng.choice(reader.seeds), rng)
                outcome, text = _tried(reader, content)
                counts[name][outcome] += 1
                # One of each kind: the place in the code, without what was read.
                kind = name + re.sub(r"^\S.*$|\d+", "", text, flags=re.MULTILINE)
                if outcome == "findings" and kind not in known:
                    known.add(kind)
                    stem = f"{name.replace(' ', '-')}-{counts[name]['findings']}"
                    (findings / stem).write_bytes(content)
                    (findings / f"{stem}.txt").write_text(text, errors="backslashreplace")
    return counts


def _tried(reader: Reader, content: bytes) -> tuple[str, str]:
    """Returns the name of the outcome, and the error."""
    from click import ClickException

    from components.image_example_gen.decoding import Undecodable
    from trainer import failures

    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_LIMIT_SECONDS)
    _forget_peak()
    before = _peak_kib()
    try:
        reader.use(content)
        outcome, text = "read", ""
    except (ClickException, Undecodable) as error:
        outcome, text = "refused", str(error)
    except BaseException as error:
        known = isinstance(error, Exception) and failures.as_user_error(error)
        outcome, text = ("refused", str(known)) if known else ("findings", traceback.format_exc())
    finally:
        signal.alarm(0)
    if outcome != "findings" and _peak_kib() - before > _LIMIT_KIB:
        return "findings", f"It took {(_peak_kib() - before) >> 20} GiB."
    return outcome, text


def _peak_kib() -> int:
    """Returns the most memory since `_forget_peak`."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class _TooLong(BaseException):
    """Is no Exception, so that no reader takes it for an error of the file."""


def _too_long(*_: object) -> NoReturn:
    raise _TooLong(f"It did not end within {_LIMIT_SECONDS} s.")


def _nnclr(*arguments: str) -> None:
    """Executes a command in this process. Its errors are raised, and its output is dropped."""
    from pipeline.cli import app

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(list(arguments), standalone_mode=False)


def _text(content: bytes) -> str:
    """The text that a command gets from a shell whose user types these bytes."""
    return os.fsdecode(content.replace(b"\0", b""))


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((70, 50))
    seeds = []
    for mode, kind, options in (
        *(("RGB", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("CMYK", "JPEG", {}), ("L", "JPEG", {})),
        *(("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("P", "PNG", {}), ("I;16", "PNG", {}), ("1", "PNG", {})),
        *(("P", "GIF", {"transparency": 0}), ("RGB", "BMP", {}), ("RGB", "WEBP", {}), ("RGB", "TIFF", {})),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ):
        image = colours.convert("L").convert(mode) if mode == "I;16" else colours.convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        seeds.append(buffer.getvalue())
    return seeds


def _decode(content: bytes) -> None:
    from components.image_example_gen.decoding import decode_file

    for size in (None, _SIZE):
        pixels = decode_file(content, size)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)


def _tar(mode: str) -> bytes:
    """An archive in STL-10's layout of four images in each split."""
    from components.image_example_gen import stl10
    from pipeline.data import sample

    images = stl10.encode_images(np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8))
    contents = {
        **dict.fromkeys((stl10.UNLABELLED_IMAGES, stl10.TRAIN_IMAGES, stl10.TEST_IMAGES), images),
        **dict.fromkeys((stl10.TRAIN_LABELS, stl10.TEST_LABELS), bytes([1, 2, 1, 2])),
        stl10.CLASS_NAMES: "".join(f"{name}\n" for name in sample.NAMES).encode(),
        stl10.FOLD_INDICES: b"0 1\n2 3\n" * 5,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        # The small files first, so that more of the changes meet them.
        for name, content in sorted(contents.items(), key=lambda item: len(item[1])):
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _through_source(path: Path) -> Callable[[bytes], None]:
    def use(content: bytes) -> None:
        _written(path, content)
        _read_all(path if path.name.endswith(".tar.gz") else path.parent)

    return use


def _read_all(path: Path) -> None:
    from components.image_example_gen import encoding
    from components.image_example_gen.decoding import Undecodable
    from components.image_example_gen.sources.opening import open_all

    source = open_all(str(path))
    for work in source.work(3):
        for picture in source.read(work):
            with contextlib.suppress(Undecodable):
                encoding.decode(picture)


def _example() -> bytes:
    import tensorflow as tf

    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[_pictures()[4]])),
        "label": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"cat"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _records(examples: Iterable[bytes] = ()) -> bytes:
    import tensorflow as tf

    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            for example in examples or [_example()] * 2:
                writer.write(example)
        return Path(file.name).read_bytes()


def _through_records(folder: Path) -> Callable[[bytes], None]:
    """Wraps changed examples into records whose checksums are right."""

    def use(content: bytes) -> None:
        _written(folder / "train.tfrecord", _records([_example(), content]))
        _read_all(folder)

    return use


def _labels(content: bytes) -> None:
    from components.image_example_gen.sources import labels_file

    labels_file.parse("labels.csv", content)


def _exclusions(content: bytes) -> None:
    from components.image_example_gen.sources import exclusion

    exclusion.parse("list", content)


def _settings() -> list[bytes]:
    from pipeline import config

    return [text.encode() for text in config.presets().values()]


def _settings_file(path: Path) -> Callable[[bytes], None]:
    from pipeline import config

    return lambda content: config.load(None, _written(path, content)) and None


def _override(content: bytes) -> None:
    from pipeline import config

    config.load("sample", None, [_text(content)])


def _durations(content: bytes) -> None:
    from pipeline import config
    from trainer.errors import SettingsError

    for name in ("trainer.duration", "trainer.time_limit", "trainer.checkpoint.every"):
        with contextlib.suppress(SettingsError):
            config.load("sample", None, [f"{name}={json.dumps(_text(content))}"])


def _cron(content: bytes) -> None:
    from datetime import UTC, datetime

    from pipeline import cron

    expression = cron.validated(_text(content))
    cron.in_words(expression)
    cron.next_time(expression, datetime(2026, 1, 1, tzinfo=UTC))
    cron.to_kubeflow(expression)


def _spans(folder: Path) -> Callable[[bytes], None]:
    from components.data_resolver import spans

    for name in ("x-2026-11-02", "x-2026-02-31", "1/v01a", "2/v1"):
        _written(folder / name / "_SUCCESS", b"")

    def use(content: bytes) -> None:
        pattern = f"{folder}/{_text(content)}"
        if spans.is_pattern(pattern):
            spans.newest(pattern, count=None)

    return use


def _of_embeddings(folder: Path, data: Path, model: Path) -> dict[str, Reader]:
    from components.embeddings import formats

    finished = {ending: folder / f"finished{ending}" for ending in formats.ENDINGS}
    for path in finished.values():
        _nnclr("embed", str(data), "--model", str(model), "-o", str(path))
    changed = folder / "changed.parquet"

    def reader(*command: str) -> Reader:
        seeds = [finished[formats.PARQUET].read_bytes()]
        return Reader(seeds, lambda content: _nnclr(*command, "--in", str(_written(changed, content))))

    def describe(ending: str, part: str = "") -> Reader:
        path = folder / f"described{ending}"
        seed = (finished[ending] / part if part else finished[ending]).read_bytes()
        return Reader([seed], lambda content: _described(path, path / part if part else path, content))

    def _described(path: Path, file: Path, content: bytes) -> None:
        _written(file, content)
        formats.read_description(str(path))

    # A file that nnclr embed would replace.
    return {
        "embeddings of outliers": reader("outliers", "-n", "3"),
        "embeddings of suggest": reader("suggest", "-n", "3"),
        "embeddings of leaks": reader("leaks"),
        "embeddings of duplicates": reader("duplicates"),
        "outputs in NumPy's format": describe(formats.NPZ),
        "outputs for TensorBoard": describe(formats.PROJECTOR, "embeddings.json"),
    }


def _of_encoders(copy: Path, model: Path) -> dict[str, Reader]:
    from trainer import export
    from trainer.errors import SettingsError

    shutil.copytree(model, copy)
    pixels = np.zeros((1, *export.describe(str(copy)).image_size, 3), np.uint8)

    def reader(name: str) -> Reader:
        whole = (copy / name).read_bytes()

        def use(content: bytes) -> None:
            _written(copy / name, content)
            try:
                with contextlib.suppress(SettingsError):
                    export.load_encoder(str(copy))
                export.fingerprint(str(copy))
                export.Embeddings.of_export(str(copy))(pixels)
            finally:
                _written(copy / name, whole)

        return Reader([whole], use)

    return {
        "descriptions of encoders": reader("assets.extra/nnclr.json"),
        "graphs of SavedModels": reader("saved_model.pb"),
        "weights of SavedModels": reader("variables/variables.data-00000-of-00001"),
        "lists of weights": reader("variables/variables.index"),
    }


def _checkpoints(folder: Path) -> Reader:
    from trainer import checkpoints

    arrays = {"kernel": np.ones((3, 4), np.float32), "step": np.array(3)}
    shapes = {name: array.shape for name, array in arrays.items()}
    written = checkpoints.Checkpoints(str(folder / "checkpoints"), "key", 1)
    path = Path(written.save(3, arrays, {"losses": [1.0]}))

    def use(content: bytes) -> None:
        path.write_bytes(content)
        written.latest(shapes)
        checkpoints.read(str(path), shapes)

    return Reader([path.read_bytes()], use)


def _package(folder: Path) -> Reader:
    from pipeline.kubeflow.package import read_package

    path = folder / "compiled.yaml"
    _nnclr("compile", "--preset", "sample", "--set", "data.source=gs://images/stl10", "-o", str(path))
    return Reader([path.read_bytes()], lambda content: read_package(_written(path, content)) and None)


def _schedule(folder: Path) -> Reader:
    from pipeline.local.schedule import state
    from pipeline.local.workdir import Workdir

    workdir = Workdir(folder / "workdir")
    workdir.root.mkdir()
    last = state.LastRun(at="2026-11-02T03:00:00", outcome="released", detail="", exit_code=0, tries=1)
    state.write(workdir, state.ScheduleState(cron="0 3 * * 1", time_zone="UTC", last=last))

    def use(content: bytes) -> None:
        workdir.schedule.write_bytes(content)
        _nnclr("schedule", "status", "--workdir", str(workdir.root))

    return Reader([workdir.schedule.read_bytes()], use)


def _digests(folder: Path) -> Reader:
    from components.image_example_gen import digests
    from components.image_example_gen.sources import files

    _written(folder / "hashed" / "a.png", b"a")
    root, memory = str(folder / "hashed"), folder / "digests"

    def remember() -> None:
        listed = {f"{root}/{name}": entry for name, entry in files.listing(root).files.items()}
        digests.digests(root, listed, memory)

    remember()
    (path,) = memory.iterdir()

    def use(content: bytes) -> None:
        path.write_bytes(content)
        remember()

    return Reader([path.read_bytes()], use)


def _fuzz(scene: Scene, attempt: Attempt) -> str:
    """Fuzzes all readers in a process of its own, which a reader may end."""
    findings = attempt.folder / "findings"
    seed = attempt.random.randrange(1 << 30)
    arguments = ["--seed", str(seed), "--minutes", "2", "--data", str(scene.data), "--model", str(scene.model)]
    done = scene.python(attempt.folder, "-m", "tests.soak.fuzzing", *arguments, "--findings", str(findings))
    demand(done.code in (0, 1) and done.out.strip(), f"Exit code {done.code} with seed {seed}: {done.err[-600:]}")
    for name, counts in done.json.items():
        attempt.tried[f"{name} changed at random"] += sum(counts.values())
    found = {name: counts["findings"] for name, counts in done.json.items() if counts["findings"]}
    demand(not found, f"Not withstood: {found}.")
    return "read, or one sentence"


def main() -> int:
    """Fuzzes the readers, prints how often as JSON, and returns 1 if one did not withstand."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzzing", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="seed of all random choices")
    parser.add_argument("--minutes", type=float, default=60, help="time to end after (default: 60)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="use only these readers")
    parser.add_argument("--data", type=Path, required=True, help="images in STL-10's layout")
    parser.add_argument("--model", type=Path, required=True, help="folder of an exported encoder")
    parser.add_argument("--findings", type=Path, default=Path("findings"), help="folder for contents not withstood")
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        known = readers(Path(folder), options.data, options.model)
        chosen = {name: known[name] for name in options.only or known}
        end = time.monotonic() + 60 * options.minutes
        counts = fuzz(chosen, random.Random(options.seed), end, options.findings)
    print(json.dumps(counts))
    return int(any(each["findings"] for each in counts.values()))


FAULTS = [Fault("fuzzing", 150, _fuzz)]

if __name__ == "__main__":
    sys.exit(main())

"""Secrets that must not be written anywhere, and names of others that must not become code."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from components.image_example_gen import stl10
from tests.soak.fault import Attempt, Fault, demand
from tests.soak.scene import MODEL, SETTINGS, WORKDIR, Ended, Scene

_CANARY = "c4n4ry-s3cr3t"
_ADDRESS = f"http://someone:{_CANARY}@127.0.0.1:9"
# Every variable of nnclr's and of the libraries' that may hold a secret.
_SECRETS = {
    **dict.fromkeys(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"), _CANARY),
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), _CANARY),
    **dict.fromkeys(
        ("AZURE_CLIENT_SECRET", "AZURE_STORAGE_CONNECTION_STRING", "DATABRICKS_TOKEN", "HF_TOKEN", "KFP_TOKEN"), _CANARY
    ),
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _ADDRESS),
    "SOAK_RECEIVER": _ADDRESS,
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
}
_ESCAPE = "\x1b]0;owned\x07\x1b[31m"
# Class names become labels, file names become ids. A class whose name has a control character is refused.
_CLASSES = (
    "<script>alert(1)<%2Fscript>",
    '"><img src=x onerror=alert(1)>',
    "[bold red]rich[%2Fbold red]",
    "](javascript:alert(1)) | `x` {{ 7*7 }}",
    "- !!python%2Fobject: {a: &b *b}",
)
_FILES = (*_CLASSES[:2], f"cat{_ESCAPE}", "two\nlines: 'x'")
# A tag of one of these names, or an event attribute in a tag.
_CODE = re.compile(r"<script>alert|<img src=x|<[^>\"']*\sonerror=", re.IGNORECASE)


def _canary(scene: Scene, attempt: Attempt) -> str:
    """Searches all that commands print and write for a secret that every variable holds."""
    folder = attempt.folder
    scene.copied(folder)
    told = "notify=[{on: [failed, refused, released, unchanged], url_from: SOAK_RECEIVER}]"
    run = scene.run_arguments("--no-cache", "--set", told)
    commands = {
        "a run": (run, {}),
        "a run that fails": ([*run, "--data", "gone"], {}),
        "a run without its server": (run, {"MLFLOW_TRACKING_URI": _ADDRESS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}),
        "a list without its server": (["models", "list"], {"MLFLOW_TRACKING_URI": _ADDRESS}),
        "a compiled pipeline": (["compile", *SETTINGS, "--set", "data.source=gs://x/y", "-o", "compiled.yaml"], {}),
        "the doctor": (["doctor"], {}),
    }
    for what, (command, more) in commands.items():
        ended = scene.nnclr(folder, command, **_SECRETS, **more)
        attempt.note(f"secrets in all variables of {what}")
        demand(_CANARY not in ended.out + ended.err, f"The output of {what} contains a secret.")
    leaking = [str(path.relative_to(folder)) for path in _files(folder) if _CANARY.encode() in path.read_bytes()]
    demand(not leaking, f"These files contain a secret: {leaking}.")
    return "no secret in any output or file"


def _names(scene: Scene, attempt: Attempt) -> str:
    """Runs the pipeline on classes and files whose names are HTML, Markdown, YAML or terminal escapes."""
    folder = attempt.folder
    _write_hostile(scene.data, folder / "pictures")
    command = ["run", *SETTINGS, "--data", "pictures", "--workdir", WORKDIR]
    champion = ["--workdir", WORKDIR, "--set", f"registry.model_name={MODEL}"]
    shown = [
        scene.nnclr(folder, command),
        scene.nnclr(folder, ["models", "show", "champion", "--workdir", WORKDIR]),
        scene.nnclr(folder, ["embed", "pictures", *champion, "-o", "e.parquet"]),
        scene.nnclr(folder, ["duplicates", "--in", "e.parquet", "--html", "page.html"]),
        scene.nnclr(folder, ["classify", "pictures", *champion, "-o", "classes.csv"]),
    ]
    attempt.note("classes and files with hostile names")
    for ended in shown:
        demand(ended.code == 0, f"Exit code {ended.code}: {ended.sentence!r}")
        demand("\x1b" not in ended.out + ended.err, f"The terminal receives an escape: {_around(ended)!r}")
    pages = [path for path in _files(folder) if path.suffix in (".html", ".md")]
    demand(pages, "There are no pages.")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = _CODE.search(text)
        demand(not found, f"{page.relative_to(folder)} contains code: {found and text[found.start() :][:80]!r}")
        demand("\x1b" not in text, f"{page.relative_to(folder)} contains a terminal escape.")
    return "no code in pages and cards, no escape on the terminal"


def _around(ended: Ended) -> str:
    text = ended.out + ended.err
    before, _, after = text.partition("\x1b")
    return f"{before[-60:]}\x1b{after[:20]}"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _write_hostile(sample: Path, folder: Path) -> None:
    """Writes the sample as pictures in folders whose names are hostile."""
    for split, file in (
        ("unlabelled", stl10.UNLABELLED_IMAGES),
        ("train", stl10.TRAIN_IMAGES),
        ("test", stl10.TEST_IMAGES),
    ):
        images = stl10.decode_images((sample / file).read_bytes())
        labels = {"train": stl10.TRAIN_LABELS, "test": stl10.TEST_LABELS}.get(split)
        numbers = np.fromfile(sample / labels, np.uint8) if labels else np.zeros(len(images), np.uint8)
        for index, (image, number) in enumerate(zip(images, numbers, strict=True)):
            name = _CLASSES[number % len(_CLASSES)]
            place = folder / split / name if labels else folder / split
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index:04d} {_FILES[index % len(_FILES)]}.png")


FAULTS = [Fault("canary", 200, _canary), Fault("hostile-names", 200, _names)]

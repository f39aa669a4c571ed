"""What the tool costs before it does any work, and after: starting, importing, a run that has nothing new to do.

python -m tests.benchmarks.fixed_costs [--workdir DIR] [--json FILE]

Every process is a fresh one, on a warm page cache. "compiled" means that Python finds bytecode of all modules, as
`make` and the container image leave them, and as Python itself does after a first start where it may write;
"not compiled" that it finds none and may write none (`PYTHONDONTWRITEBYTECODE`, a read-only file system), which costs
the same again at every start. Both are brought about here, whatever the environment is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.bench import report
from pipeline.bench.measuring import Figure, Table, alternately

_ROOT = Path(__file__).resolve().parents[2]
_ROUNDS = 3
_STATES = _COMPILED, _PLAIN = "compiled", "not compiled"
_NNCLR = ("-m", "pipeline")
_IMPORTS = {
    "pass": "pass",
    "import tensorflow": "import tensorflow",
    "import tfx.components": "import tfx.components",
    "import trainer.loop": "import trainer.loop",
    "import apache_beam": "import apache_beam",
    "import mlflow": "import mlflow",
    "import all that nnclr run does": "import mlflow, pipeline.dag, tfx.orchestration.local.local_dag_runner",
    "the same, by nnclr's own way": "from pipeline.terminal import imports\nwith imports.gc_paused():\n"
    "    import mlflow, pipeline.dag, tfx.orchestration.local.local_dag_runner",
}
# The README's ways to the champion. A digit stands beside the registry.
_PYFUNC = """
import mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///registry/mlflow.db")
model = mlflow.pyfunc.load_model("models:/nnclr-sample@champion")
embeddings = model.predict(pd.DataFrame({"image_bytes": [open("digit.png", "rb").read()]}))
"""
_SAVED_MODEL = """
import glob, tensorflow as tf
(folder,) = glob.glob("registry/artifacts/**/saved_model", recursive=True)
model = tf.saved_model.load(folder)
embeddings = model.signatures["serving_default"](image_bytes=tf.constant([open("digit.png", "rb").read()]))
"""
_TRAIN, _TEST, _PIXELS, _CLASSES = 5_000, 8_000, 96, 10


class Python:
    """Starts processes.

    Args:
        directory: for bytecode.
        state: of `_STATES`.
    """

    def __init__(self, directory: Path, state: str):
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONDONTWRITE")}
        self._environment |= {"PYTHONPATH": str(_ROOT), "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}
        if state == _PLAIN:
            self._environment |= {
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPYCACHEPREFIX": str(directory / "no-bytecode"),
            }

    def run(self, *arguments: str, cwd: Path = _ROOT) -> None:
        """Runs one to its end.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{arguments} failed: {done.stderr[-2000:]}")

    def starter(self, *arguments: str, cwd: Path = _ROOT) -> Callable[[], None]:
        """The same, to be called later."""
        return lambda: self.run(*arguments, cwd=cwd)


def _seconds(title: str, contenders: Mapping[str, Callable[[], object]], reference: str) -> Table:
    measured = alternately(contenders, _ROUNDS)
    base = statistics.median(measured[reference])
    figures = [Figure.of(name, s, "s", statistics.median(s) / base) for name, s in measured.items()]
    return Table(title, figures, f"Ratio to {reference}.")


def processes(directory: Path, state: str) -> Table:
    """The command's help, and the imports."""
    python = Python(directory, state)
    contenders = {name: python.starter("-c", code) for name, code in _IMPORTS.items()}
    contenders["nnclr --help"] = python.starter(*_NNCLR, "--help")
    return _seconds(f"Starting, {state}", contenders, "import tensorflow")


def runs(directory: Path) -> list[Table]:
    """`nnclr run --preset sample` in a new working directory: the first run, the second and those after it."""
    place = directory / "runs-of-the-sample"
    python = {state: Python(directory, state) for state in _STATES}
    command = (*_NNCLR, "run", "--preset", "sample", "--workdir", str(place))
    # Only so that there is bytecode.
    python[_COMPILED].run("-c", "import mlflow, pipeline.dag, tfx.orchestration.local.local_dag_runner")
    once = {}
    for name in ("first", "second"):
        start = time.perf_counter()
        python[_COMPILED].run(*command)
        once[name] = time.perf_counter() - start, _newest_summary(place)["components"]
    # The compiled one last: its summary is read.
    later = alternately({state: python[state].starter(*command) for state in (_PLAIN, _COMPILED)}, _ROUNDS)
    last = _newest_summary(place)["components"]
    cached = statistics.median(later[_COMPILED])
    table = Table(
        "nnclr run --preset sample",
        note="Whole processes. The first run makes a champion, so that the second is the first to have one to compare "
        "with. Ratio to the all-cached one, compiled.",
    )
    measured = {
        "first, compiled": [once["first"][0]],
        "second, compiled: evaluates against the champion": [once["second"][0]],
        **{f"third and later, {state}: all cached": later[state] for state in _STATES},
    }
    for name, seconds in measured.items():
        note = "once" if len(seconds) == 1 else ""
        table.figures.append(Figure.of(name, seconds, "s", statistics.median(seconds) / cached, note))
    return [
        table,
        *(_components(name, seconds, components) for name, (seconds, components) in once.items()),
        _components("last", later[_COMPILED][-1], last),
    ]


def _newest_summary(place: Path) -> dict[str, Any]:
    newest = max((place / "runs").glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text(encoding="utf-8"))


def _components(name: str, seconds: float, components: list[dict[str, Any]]) -> Table:
    figures = [
        Figure.of(found["id"], [found["seconds"]], "s", found["seconds"] / seconds, found["state"])
        for found in components
    ]
    around = seconds - sum(found["seconds"] for found in components)
    figures.append(Figure.of("around them: start, imports, compiling, end", [around], "s", around / seconds))
    return Table(f"Where the {name} run's {seconds:.1f} s went", figures, "Ratio to the whole.")


def champion(directory: Path) -> Table:
    """Loading the champion of `runs` and embedding one image."""
    from components.registry_pusher import verification

    place = directory / "runs-of-the-sample"
    (place / "digit.png").write_bytes(verification.example_images([48, 48])[0])
    contenders: dict[str, Callable[[], object]] = {}
    for state in _STATES:
        python = Python(directory, state)
        contenders |= {
            f"import tensorflow, {state}": python.starter("-c", "import tensorflow"),
            f"mlflow.pyfunc, from the registry, {state}": python.starter("-c", _PYFUNC, cwd=place),
            f"tf.saved_model, from its folder, {state}": python.starter("-c", _SAVED_MODEL, cwd=place),
        }
    return _seconds("Champion to first embedding", contenders, f"import tensorflow, {_COMPILED}")


def evaluator(directory: Path) -> Table:
    """Embedding in Beam and fitting the probe, for as many labelled images as STL-10 has.

    The images are noise with a faint pattern of their class: of noise alone the fit would soon have enough.
    """
    import apache_beam as beam
    import numpy as np
    import tensorflow as tf

    from components.image_example_gen import encoding
    from components.image_example_gen.sources.base import Picture
    from components.linear_probe_evaluator import embedding, probes
    from components.linear_probe_evaluator.probes import Labelled
    from pipeline import config
    from trainer import export, splits
    from trainer.encoders import build_encoder

    settings, size = config.load("keras-example"), (_PIXELS, _PIXELS)
    model = str(directory / "encoder")
    export.export_encoder(build_encoder(settings.trainer.encoder, size), settings.trainer, size, model)
    models = {"untrained": embedding.Encoder(model, size)}
    random = np.random.default_rng(0)
    patterns = random.integers(0, 64, (_CLASSES, *size, 3), np.uint8)
    files = {}
    for split, count in ((splits.TRAIN, _TRAIN), (splits.TEST, _TEST)):
        files[split] = [str(directory / f"{split}.tfrecord")]
        with tf.io.TFRecordWriter(files[split][0]) as writer:
            for number in range(count):
                label = number % _CLASSES
                image = random.integers(0, 192, (*size, 3), np.uint8) + patterns[label]
                writer.write(encoding.to_example(Picture(split, number, str(number), image, label), image))
    seconds: dict[str, list[float]] = {"embedding": [], "fitting the probe": []}
    for number in range(1 + _ROUNDS):
        aside = str(directory / f"embedded-{number}")
        start = time.perf_counter()
        with beam.Pipeline(argv=settings.beam_pipeline_args()) as pipeline:
            _ = pipeline | embedding.EmbedImages(files, size, models, aside, _TRAIN + _TEST)
        embedded = time.perf_counter()
        train = Labelled(
            embedding.read_features(aside, "untrained", splits.TRAIN, directory / "memory").values,
            embedding.read_rows(aside, splits.TRAIN).labels,
        )
        probes.fit(train, _CLASSES, 0)
        if number:
            seconds["embedding"].append(embedded - start)
            seconds["fitting the probe"].append(time.perf_counter() - embedded)
    table = Table(
        f"Evaluator: {_TRAIN:,} + {_TEST:,} images of {_PIXELS}x{_PIXELS}, the encoder of keras-example",
        note="The fit chooses its regularisation by cross-validation; its images/s are of the training split alone. "
        "How long it takes depends on the images, and real ones may take longer. Ratio to the seconds of embedding.",
    )
    base = statistics.median(seconds["embedding"])
    for name, images in (("embedding", _TRAIN + _TEST), ("fitting the probe", _TRAIN)):
        measured = seconds[name]
        table.figures += [
            Figure.of(name, measured, "s", statistics.median(measured) / base),
            Figure.of(name, [images / one for one in measured], "images/s"),
        ]
    return table


def tables(directory: Path) -> list[Table]:
    """All of them, measured in a directory that is empty before."""
    starting = [processes(directory, state) for state in _STATES]
    return [*starting, *runs(directory), champion(directory), evaluator(directory)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--workdir", type=Path, help="an empty folder for runs and bytecode; a temporary one by default"
    )
    report.add_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        directory = (arguments.workdir or Path(aside)).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        found = tables(directory)
    report.finish(found, arguments.json)


if __name__ == "__main__":
    main()

"""`make image-run`: runs a compiled pipeline with each step in a container of a built image, and prints what happens.

Containers run as the image's user on a read-only file system. The figures must equal those of `nnclr run` in this
environment, and a second run must take from the cache what does not depend on the new champion. Needs root, because the
steps' folders belong to the image's user.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.data import sample
from tests import mlflow_server, object_storage
from tests.pipeline.kubeflow import node
from tests.pipeline.kubeflow.cluster import Cluster, Run
from tests.pipeline.kubeflow.container import ContainerImage
from tests.pipeline.kubeflow.storage import Storage
from tests.pipeline.local.test_run import COMPONENTS, TINY

_IMAGES = "/images"


def main() -> int:
    """Runs the pipeline; returns 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.pipeline.kubeflow.image_run", description=__doc__)
    parser.add_argument("--image", default="nnclr:latest", help="name of the image (default: nnclr:latest)")
    parser.add_argument("--engine", default="docker", help="command that runs containers, such as podman")
    arguments = parser.parse_args()
    if not node.confines():
        parser.error("this user may not create the folders of the image's user: run it as root")
    image = ContainerImage(shlex.split(arguments.engine), arguments.image)
    with (
        tempfile.TemporaryDirectory() as directory,
        mlflow_server.running(Path(directory)) as registry,
        object_storage.running() as storage,
    ):
        return _run(Path(directory), image, registry, Storage(storage))


def _run(folder: Path, image: ContainerImage, registry: str, storage: Storage) -> int:
    data = folder / "images" / "tiny"
    sample.write_sample(data, counts={"unlabelled": 640, "train": 300, "test": 200})
    print("nnclr run in this environment ...", flush=True)
    _nnclr(folder, "run", *TINY, "--data", str(data))
    settings = ["--set", f"kubeflow.volumes={{images: {_IMAGES}}}"]
    _nnclr(folder, "compile", *TINY, "--data", f"{_IMAGES}/tiny", *settings, "-o", "pipeline.yaml")
    # Everyone may read the volume.
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    cluster = Cluster(folder / "cluster", image, storage, claims={"images": data.parent})
    parameters = {"registry_uri": registry}
    identity = image.describe(node.USER)
    print(f"The same pipeline in containers ({identity}) ...", flush=True)
    first = cluster.run(folder / "pipeline.yaml", parameters)
    _describe(first)
    print("The second run ...", flush=True)
    second = cluster.run(folder / "pipeline.yaml", parameters)
    _describe(second)
    found = _figures(storage.read(f"{first.artifacts['LinearProbeEvaluator']['evaluation'].uri}/metrics.json"))
    (local,) = folder.glob("nnclr-runs/artifacts/LinearProbeEvaluator/evaluation/*/metrics.json")
    expected = _figures(local.read_text())
    different = [name for name in expected if found[name] != expected[name]]
    print(f"Probe accuracy {found['probe_accuracy']:.4f}, of nnclr run {expected['probe_accuracy']:.4f}")
    checks = {
        "containers run as another user on a read-only file system": identity
        == f"uid {node.USER}, may write {node.HOME}: False",
        "every step ran": set(first.ran) == {"DataResolver", *COMPONENTS},
        f"{len(expected)} figures equal those of nnclr run, except {different or 'none'}": not different,
        "the second run took the Trainer's result from the cache": "Trainer" in second.cached,
    }
    for sentence, holds in checks.items():
        print(f"{'ok    ' if holds else 'FAILED'} {sentence}")
    return 0 if all(checks.values()) else 1


def _figures(metrics: str) -> dict[str, Any]:
    """Returns the figures of an evaluation, without the folder of the images."""
    return {name: value for name, value in json.loads(metrics).items() if name not in ("data", "labelled_data")}


def _describe(run: Run) -> None:
    for pod in run.pods:
        print(f"  {pod.task}: exit code {pod.code}; last line: {pod.output.rstrip().splitlines()[-1]}")
    print(f"  from the cache: {', '.join(run.cached) or 'nothing'}", flush=True)


def _nnclr(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "pipeline", *arguments]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr)
    return process.stdout


if __name__ == "__main__":
    sys.exit(main())

"""MLflow, its scoring server, TensorFlow, Keras and ONNX Runtime load a release as docs/releases.md says."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.model_registry import ModelRegistry
from components.registry_pusher import verification
from components.registry_pusher.push import push
from tests.components import releases
from trainer import export

pytestmark = pytest.mark.long

DOCUMENT = Path(__file__).parents[2] / "docs" / "releases.md"
# The registry and the model of the documented lines, relative to the folder of the fixture.
REGISTRY, NAME = "nnclr-runs/registry", "nnclr-sample"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a registry of one champion, the picture `digit.png` and its embedding in `expected.npy`."""
    root = tmp_path_factory.mktemp("released")
    model = releases.export_model(root / "model", seed=1)
    candidate = releases.candidate(model, "run-1")
    registry = candidate.settings.registry.model_copy(update={"formats": ["onnx", "keras"]})
    settings = candidate.settings.model_copy(update={"registry": registry})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        push(ModelRegistry(str(root / REGISTRY)), NAME, "champion", replace(candidate, settings=settings))
    image = verification.example_images((32, 32))[0]
    (root / "digit.png").write_bytes(image)
    np.save(root / "expected.npy", export.embed_encoded(model, [image]))
    return root


def test_the_documented_lines_give_the_same_embeddings_without_nnclr(folder):
    section = DOCUMENT.read_text().partition("## Using a released encoder")[2].partition("\n## ")[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    noted, count = re.subn(
        r"^(\(?embeddings,?\)? = .*)$", r"\1\nfound.append(np.asarray(embeddings))", code, flags=re.M
    )
    assert count == 4
    checks = """
expected = np.load("expected.npy")
print([float(np.abs(embeddings - expected).max()) for embeddings in found])
for embeddings in found:
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)
assert not {"trainer", "components", "pipeline"} & set(sys.modules)
"""
    code = f"import sys\nimport numpy as np\nfound = []\n{noted}{checks}"
    # Without this repository in the path of modules.
    command = [sys.executable, "-P", "-c", code]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr


def test_mlflows_scoring_server_answers_as_documented(folder, tmp_path):
    section = DOCUMENT.read_text().partition("### MLflow's scoring server")[2]
    served = re.search(r"\$ mlflow (models serve .*) --port \d+ &", section)[1].split()
    form = re.search(r"echo '(.*)' > request.json", section)[1]
    request, count = re.subn(r"'\$\(.*\)'", base64.b64encode((folder / "digit.png").read_bytes()).decode(), form)
    assert count == 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{REGISTRY}/mlflow.db"}
    # The server starts `uvicorn` by its name.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    log = tmp_path / "server.log"
    with open(log, "w") as out:
        command = [sys.executable, "-P", "-m", "mlflow", *served, "--port", str(port)]
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, log.read_text()
                time.sleep(0.5)
        headers = {"Content-Type": "application/json"}
        posted = urllib.request.Request(f"{url}/invocations", request.encode(), headers)
        with urllib.request.urlopen(posted, timeout=60) as answer:
            embeddings = json.load(answer)["predictions"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
    np.testing.assert_allclose(embeddings, np.load(folder / "expected.npy"), rtol=1e-5, atol=1e-6)

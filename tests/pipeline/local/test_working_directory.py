"""Copied, moved or half deleted, a working directory goes on with its own files and touches no others."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data import sample
from pipeline.local import pruning, summary
from pipeline.local.workdir import Workdir
from tests import interpreters
from tests.pipeline.commands.sessions import session
from tests.pipeline.local.test_run import COMPONENTS, TINY
from trainer import aside

SHORT = [*TINY, "--set", "trainer.epochs=1", "--json"]
CACHED = set(COMPONENTS) - {"RegistryPusher"}
AGAIN = {"ChampionResolver", "DataGate", "LinearProbeEvaluator"}


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A folder with an odd name, images in it, and a working directory `a` in which one run was made."""
    root = tmp_path_factory.mktemp("origin") / "Ärger & Söhne's (run) +1; ~x=y, z"
    root.mkdir()
    sample.write_sample(root / "images", counts={"unlabelled": 128, "train": 100, "test": 60})
    (first,) = session(root, ["run", *SHORT, "--data", "images", "--workdir", "a"])
    assert first.code == 0, first.err
    return root


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder with its content's hash. Of databases, the content that sqlite gives."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def embedding(python: interpreters.Interpreter, registry: Path, image: Path) -> list[float]:
    """What README's snippet for plain MLflow gives: a process that knows nothing of nnclr."""
    code = (
        "import sys, json, mlflow, pandas as pd\n"
        f"mlflow.set_tracking_uri('sqlite:///{registry}/mlflow.db')\n"
        "model = mlflow.pyfunc.load_model('models:/nnclr-sample@champion')\n"
        f"frame = pd.DataFrame({{'image_bytes': [open('{image}', 'rb').read()]}})\n"
        "print(json.dumps(model.predict(frame)[0].tolist()))\n"
    )
    process = python.run("-c", code, cwd=registry)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.long
def test_a_copy_runs_and_prunes_without_touching_the_original(origin, tmp_path):
    shutil.copytree(origin, tmp_path / "p")
    p = tmp_path / "p"
    # The paths in the copy's databases are those of `origin`: it is a copy already, and becomes `a` here.
    images = ["--data", str(origin / "images")]
    shutil.rmtree(p / "images")
    (first,) = session(p, ["run", *SHORT, *images, "--workdir", "a"])
    assert first.code == 0, first.err
    assert f"The working directory was {origin / 'a'} before" in " ".join(first.err.split())
    # The registry has a champion since the first run, so that the evaluator is asked again; all else stands.
    assert {name for name, state in first.states.items() if state == "cached"} == CACHED - AGAIN
    shutil.copytree(p / "a", p / "b")
    before, untouched = tree(p / "a"), tree(origin)
    again, new, _, pruned, listed = session(
        p,
        ["run", *SHORT, *images, "--workdir", "b"],
        ["run", *SHORT, *images, "--workdir", "b", "--set", "trainer.seed=1", "--set", "evaluator.tolerance=1"],
        ["run", *SHORT, *images, "--workdir", "b", "--set", "trainer.seed=2", "--set", "evaluator.tolerance=1"],
        ["models", "prune", "--keep", "1", "--workdir", "b", "--json"],
        ["models", "list", "--workdir", "b", "--json"],
    )
    # Nothing is computed again for having been copied.
    assert {name for name, state in again.states.items() if state == "cached"} == CACHED
    assert new.json["registry"]["version"] == 2, new.err
    assert pruned.json["deleted"] == [1]
    assert [version["version"] for version in listed.json] == [3, 2]
    assert tree(p / "a") == before
    assert tree(origin) == untouched


@pytest.mark.long
def test_moved_it_serves_plain_mlflow_as_before(origin, tmp_path):
    shutil.copytree(origin / "a", tmp_path / "a")
    image = tmp_path / "image.png"
    from PIL import Image

    Image.effect_noise((40, 40), 80).convert("RGB").save(image)
    (verified,) = session(tmp_path, ["models", "verify", "--workdir", "a", "--json"])
    assert verified.code == 0, verified.err
    plain_mlflow = interpreters.Interpreter(modules=["mlflow.pyfunc", "tensorflow", "pandas"], cwd=tmp_path)
    old = embedding(plain_mlflow, tmp_path / "a" / "registry", image)
    (tmp_path / "a").rename(tmp_path / "c")
    (verified,) = session(tmp_path, ["models", "verify", "--workdir", "c", "--json"])
    assert (verified.code, verified.json[0]["differences"]) == (0, [])
    assert not (tmp_path / "a").exists()
    assert embedding(plain_mlflow, tmp_path / "c" / "registry", image) == old


@pytest.mark.long
def test_without_its_metadata_it_starts_anew_beside_what_lies_there(origin, tmp_path):
    shutil.copytree(origin, tmp_path / "p")
    workdir = tmp_path / "p" / "a"
    before = tree(workdir / "artifacts")
    (workdir / "metadata.sqlite").unlink()
    images = tmp_path / "fewer"
    sample.write_sample(images, counts={"unlabelled": 70, "train": 100, "test": 60})
    (again,) = session(tmp_path / "p", ["run", *SHORT, "--data", str(images), "--workdir", "a"])
    assert again.code in (0, 4), again.err
    assert again.json["data"]["counts"]["unlabelled"] == 70
    assert again.json["trainer"]["steps"] == 1
    assert set(again.states.values()) == {"done"}
    # What the earlier runs left is as it was: no folder was written into twice.
    after = tree(workdir / "artifacts")
    assert {name: after[name] for name in before} == before


@pytest.mark.long
def test_a_champion_whose_files_are_gone_is_pushed_again_as_the_same_version(origin, tmp_path):
    shutil.copytree(origin, tmp_path / "p")
    workdir = tmp_path / "p" / "a"
    shutil.rmtree(workdir / "artifacts")
    run = ["run", *SHORT, "--data", str(origin / "images"), "--workdir", "a"]
    # Trained once more from the same seed, the encoder is the same, and so is its version.
    retrained, versions = session(tmp_path / "p", run, ["models", "list", "--workdir", "a", "--json"])
    assert retrained.code == 0, retrained.err
    assert retrained.states["Trainer"] == "done"
    assert [version["version"] for version in versions.json] == [1]
    shutil.rmtree(workdir / "registry" / "artifacts")
    shutil.rmtree(workdir / "artifacts")
    reset = [*run, "--accept-baseline-reset"]
    repaired, verified = session(tmp_path / "p", reset, ["models", "verify", "--workdir", "a", "--json"])
    assert repaired.code == 0, repaired.err
    assert [(found["version"], found["differences"]) for found in verified.json] == [(1, [])]


@pytest.mark.parametrize("name", ["[photos]", "pct%41x", "q?a=1", "a#b", "star*"])
def test_a_path_that_means_something_else_to_tfx_or_mlflow_is_refused_by_name(name, tmp_path):
    process = interpreters.commands().run("-m", "pipeline", "run", *SHORT, "--workdir", name, cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    assert name in process.stderr
    assert "Traceback" not in process.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_any_other_path_will_do(origin):
    (verified,) = session(origin, ["models", "verify", "--workdir", str(origin / "a"), "--json"])
    assert [found["differences"] for found in verified.json] == [[]]


@pytest.mark.long
def test_prune_tells_sizes_deletes_nothing_by_default_and_never_what_a_kept_run_uses(origin, tmp_path):
    shutil.copytree(origin / "a", tmp_path / "a")
    images = ["--data", str(origin / "images"), "--workdir", "a"]
    other = [*SHORT, *images, "--set", "trainer.seed=2", "--set", "evaluator.tolerance=1"]
    stale = tmp_path / "a" / "checkpoints" / "0123" / "step-00000001.npz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"x" * 1000)
    os.utime(stale.parent, (0, 0))
    second, dry = session(tmp_path, ["run", *other], ["prune", "--keep-runs", "1", "--workdir", "a", "--json"])
    assert second.code == 0, second.err
    kinds = {folder["kind"] for folder in dry.json["chosen"]}
    assert (kinds, dry.json["deleted"]) == ({"run", "artifact", "checkpoint"}, False)
    assert dry.json["bytes"] == sum(folder["bytes"] for folder in dry.json["chosen"]) > 10_000
    before = tree(tmp_path / "a")
    chosen = [Path(folder["path"]) for folder in dry.json["chosen"]]
    assert all((tmp_path / path).exists() for path in chosen)
    # The ingested images were made by the first run and used by the second one.
    assert not [path for path in chosen if "ImageExampleGen/examples" in str(path)]
    assert [path for path in chosen if "Trainer/model/" in str(path)]
    pruned, again, verified, young = session(
        tmp_path,
        ["prune", "--keep-runs", "1", "--workdir", "a", "--delete", "--json"],
        ["run", *other],
        ["models", "verify", "--workdir", "a", "--json"],
        ["prune", "--keep-runs", "0", "--older-than", "1", "--workdir", "a", "--json"],
    )
    assert pruned.json["deleted"] is True
    gone = {name for name in before if not (tmp_path / "a" / name).exists()}
    assert gone == {
        name
        for name in before
        if any((tmp_path / path) in [tmp_path / "a" / name, *(tmp_path / "a" / name).parents] for path in chosen)
    }
    assert again.states["Trainer"] == "cached", again.err
    assert {found["version"] for found in verified.json} == {1, 2}
    assert all(found["differences"] == [] for found in verified.json)
    assert [folder for folder in young.json["chosen"] if folder["kind"] == "run"] == []


def test_a_user_without_a_name_or_a_home_can_do_everything(origin, tmp_path):
    """As in a container of OpenShift: a number that the system knows nothing of."""
    shutil.copytree(origin / "a", tmp_path / "a")
    code = (
        "import pwd, sys\n"
        "def unknown(number): raise KeyError(number)\n"
        "pwd.getpwuid = unknown\n"
        "from pipeline import cli\n"
        "sys.argv = ['nnclr', 'models', 'promote', '1', '--reason', 'why not', '--workdir', 'a', '--alias', 'stable']\n"
        "cli.main()\n"
    )
    nameless = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, env=nameless, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    (moves,) = session(tmp_path, ["models", "history", "--workdir", "a", "--json"])
    assert moves.json[-1]["by"].startswith(f"user {os.getuid()}@")


def test_prune_in_a_copy_knows_what_its_runs_use(origin, tmp_path):
    shutil.copytree(origin / "a", tmp_path / "b")
    untouched = tree(origin)
    pruned, verified = session(
        tmp_path,
        ["prune", "--keep-runs", "1", "--workdir", "b", "--delete", "--json"],
        ["models", "verify", "--workdir", "b", "--json"],
    )
    assert pruned.json["chosen"] == []
    assert verified.json[0]["differences"] == []
    assert tree(origin) == untouched


def test_prune_deletes_no_artifact_where_nothing_says_who_uses_it(origin, tmp_path):
    shutil.copytree(origin / "a", tmp_path / "a")
    (tmp_path / "a" / "metadata.sqlite").unlink()
    (pruned,) = session(tmp_path, ["prune", "--keep-runs", "1", "--workdir", "a", "--delete", "--json"])
    assert [folder for folder in pruned.json["chosen"] if folder["kind"] == "artifact"] == []
    assert "metadata.sqlite was replaced" in pruned.json["notes"][0]


def test_prune_deletes_what_a_killed_prune_had_renamed_and_counts_no_such_run(tmp_path):
    places = ("runs/20990101-000000-0000", "artifacts/Trainer/model/7", "artifacts/Trainer/.system/state/7")
    renamed = {Path(aside.beside(str(tmp_path / place))) for place in (*places, "checkpoints/0123")}
    for folder in renamed:
        folder.mkdir(parents=True)
        component = summary.ComponentSummary(id="Trainer", state="done", seconds=1)
        summary.write(folder, summary.Summary(run_id="0", outcome="released", components=(component,)))
    found = pruning.find_disposable(Workdir(tmp_path), keep_runs=5)
    assert ({folder.path for folder in found.disposable}, found.notes) == (renamed, [])
    assert pruning.delete(found.disposable) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_runs_that_came_to_nothing_do_not_push_out_those_that_did(origin, tmp_path):
    shutil.copytree(origin / "a", tmp_path / "a")
    for day in range(1, 8):
        empty = tmp_path / "a" / "runs" / f"2099010{day}-000000-0000"
        empty.mkdir()
        (empty / "summary.json").write_text(json.dumps({"outcome": "nothing new"}))
    (pruned,) = session(tmp_path, ["prune", "--keep-runs", "1", "--workdir", "a", "--json"])
    assert pruned.json["chosen"] == []

"""`nnclr models` from a user's side: what each command prints, moves and refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from components.model_registry import ModelRegistry
from components.registry_pusher.push import push
from components.registry_pusher.release import Candidate, Release
from tests.components import releases
from tests.pipeline.commands.sessions import Finished, session

ACCURACIES = {1: 0.5, 2: 0.6, 3: 0.7}


@pytest.fixture(scope="module")
def candidates(tmp_path_factory) -> list[Candidate]:
    root = tmp_path_factory.mktemp("models")
    return [
        releases.candidate(
            releases.export_model(root / str(version), version), f"run-{version}", accuracy, version - 1 or None
        )
        for version, accuracy in ACCURACIES.items()
    ]


@pytest.fixture(scope="module")
def built(candidates, tmp_path_factory) -> dict[str, Release]:
    return releases.built(candidates, tmp_path_factory.mktemp("built"))


@pytest.fixture
def workdir(candidates, built, empty_registry, tmp_path, monkeypatch) -> Path:
    """A working directory with three releases, the last one the champion, served by TensorFlow Serving."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    releases.use_built(built, monkeypatch.setattr)
    shutil.copytree(empty_registry, tmp_path / "work" / "registry")
    registry = ModelRegistry(str(tmp_path / "work" / "registry"))
    for candidate in candidates:
        push(registry, "encoder", "champion", candidate, str(tmp_path / "serving"))
    return tmp_path / "work"


def models(workdir: Path, *commands: list[str]) -> list[Finished]:
    return session(workdir.parent, *(["models", *command, "--workdir", workdir.name] for command in commands))


def served(workdir: Path) -> set[str]:
    return {path.name for path in (workdir.parent / "serving").iterdir()}


def test_looking_and_moving(workdir):
    listed, told, shown, seen = models(
        workdir, ["list", "--json"], ["list"], ["show", "champion", "--json"], ["show", "1"]
    )
    assert [finished.code for finished in (listed, told, shown, seen)] == [0, 0, 0, 0]
    assert [(v["version"], v["aliases"], v["probe_accuracy"]) for v in listed.json] == [
        (3, ["champion"], 0.7),
        (2, [], 0.6),
        (1, [], 0.5),
    ]
    assert all({"created", "sha256"} <= version.keys() and len(version["sha256"]) == 64 for version in listed.json)
    assert "champion" in told.out
    assert "70.0%" in told.out
    assert (shown.json["version"], shown.json["tags"]["git_commit"]) == (3, "c0ffee")
    assert shown.json["tags"]["parent_compared_with"] == "encoder version 2"
    assert "encoder version 1" in seen.out
    assert "Linear probe 50.0%" in seen.out

    assert served(workdir) >= {"3"}
    back, further, at_the_end, forward = models(
        workdir,
        ["rollback", "--reason", "slow on phones", "--json"],
        ["rollback", "--reason", "slower still"],
        ["rollback", "--reason", "even more"],
        ["promote", "3", "--reason", "it was the phone", "--json"],
    )
    assert (back.code, back.json["from"], back.json["to"]) == (0, 3, 2)
    assert further.code == 0
    assert "champion of encoder is now version 1; it was version 2." in further.out
    assert "Next: nnclr models history" in further.out
    assert at_the_end.code == 2
    assert "Version 1 of encoder is the first champion: no version precedes it." in at_the_end.err
    assert (forward.code, forward.json["from"], forward.json["to"]) == (0, 1, 3)
    assert Path(forward.json["served"]).name == "3"
    assert "3" in served(workdir)

    recorded, readable, none, silent = models(
        workdir,
        ["history", "--json"],
        ["history"],
        ["promote", "9", "--reason", "hope"],
        ["promote", "2"],
    )
    moves = [(move["previous"], move["version"], move["kind"], move["reason"]) for move in recorded.json]
    assert moves[3:] == [
        (3, 2, "rollback", "slow on phones"),
        (2, 1, "rollback", "slower still"),
        (1, 3, "promote", "it was the phone"),
    ]
    assert [move["by"] for move in recorded.json[:3]] == ["run-1", "run-2", "run-3"]
    assert all("@" in move["by"] and move["at"] and move["completed"] for move in recorded.json[3:])
    assert "it was the phone" in readable.out
    assert (none.code, silent.code) == (2, 2)
    assert "encoder has no version 9; there are: 3, 2, 1" in none.err
    assert "--reason" in silent.err


def test_serving_follows_a_rollback(workdir):
    (back,) = models(workdir, ["rollback", "--reason", "slow", "--json"])
    assert Path(back.json["served"]).name == "2"
    # Serving takes the highest number: the version that was left is gone from there.
    assert max(served(workdir)) == "2"


def test_verify_names_the_file_that_changed_and_a_changed_version_is_not_promoted(workdir):
    registry = ModelRegistry(str(workdir / "registry"))
    artifacts = registry.details(registry.version("encoder", 2)).artifacts
    name = "artifacts/saved_model/variables/variables.data-00000-of-00001"
    weights = Path(artifacts.removeprefix("file://"), "model", name)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    all_of_them, as_json, whole, promoted = models(
        workdir,
        ["verify"],
        ["verify", "--json"],
        ["verify", "champion"],
        ["promote", "2", "--reason", "hope"],
    )
    assert all_of_them.code == as_json.code == promoted.code == 5
    assert whole.code == 0
    assert all_of_them.out.splitlines() == [
        "models:/encoder/3: intact",
        "models:/encoder/2: differs",
        "models:/encoder/1: intact",
    ]
    assert f"models:/encoder/2: {name} has another sha256" in all_of_them.err
    assert {found["version"]: found["differences"] for found in as_json.json} == {
        **{3: [], 1: []},
        2: [f"{name} has another sha256"],
    }
    assert f"{name} has another sha256" in promoted.err
    assert registry.aliased("encoder", "champion").version == 3
    assert "Traceback" not in all_of_them.err + promoted.err


def test_prune_keeps_the_newest_whatever_has_an_alias_and_what_a_rollback_would_go_to(workdir):
    _, dry, pruned, left, again = models(
        workdir,
        ["promote", "3", "--alias", "stable", "--reason", "known for years"],
        ["prune", "--keep", "1", "--dry-run"],
        ["prune", "--keep", "1", "--json"],
        ["list", "--json"],
        ["prune", "--keep", "1"],
    )
    assert dry.out == "Would delete models:/encoder/1\n"
    assert pruned.json == {"deleted": [1], "chosen": [1]}
    kept = [(version["version"], version["aliases"]) for version in left.json]
    assert kept == [(3, ["champion", "stable"]), (2, [])]
    assert again.out == "Nothing to delete.\n"


def test_a_challenger_is_promoted_and_waits_no_longer(workdir, candidates):
    registry = ModelRegistry(str(workdir / "registry"))
    # Version 1 comes back from a run that was compared with version 3.
    settings = candidates[0].settings
    manual = settings.model_copy(update={"registry": settings.registry.model_copy(update={"approval": "manual"})})
    again = replace(candidates[0], settings=manual, metrics=releases.metrics(0.5, 3))
    pushed = push(registry, "encoder", "champion", again)
    tried, listed, promoted, left, gone = models(
        workdir,
        ["promote", "challenger", "--alias", "canary", "--reason", "for a trial"],
        ["list", "--json"],
        [*pushed.promotion.split()[2:-1], "approved", "--json"],
        ["list", "--json"],
        ["promote", "challenger", "--reason", "once more"],
    )
    assert tried.code == promoted.code == 0
    assert {version["version"]: version["aliases"] for version in listed.json} == {
        **{3: ["champion"], 2: []},
        1: ["canary", "challenger"],
    }
    assert (promoted.json["from"], promoted.json["to"]) == (3, 1)
    assert {version["version"]: version["aliases"] for version in left.json} == {
        3: [],
        2: [],
        1: ["canary", "champion"],
    }
    assert gone.code == 2
    assert "challenger is neither the number of a version of encoder nor one of its aliases." in gone.err


def test_the_model_is_named_where_the_registry_has_several(workdir, candidates):
    registry = ModelRegistry(str(workdir / "registry"))
    push(registry, "second", "champion", releases.candidate(candidates[0].model, "run-4"))
    unnamed, unknown, named, everything = models(
        workdir,
        ["history"],
        ["verify", "--name", "third"],
        ["history", "--name", "second", "--json"],
        ["list", "--json"],
    )
    assert unnamed.code == unknown.code == 2
    assert "The registry has the models encoder, second: choose one with --name." in unnamed.err
    assert "The registry has no model third. Registered models: encoder, second." in unknown.err
    assert [move["version"] for move in json.loads(named.out)] == [1]
    assert [version["name"] for version in everything.json] == ["encoder"] * 3 + ["second"]

"""Pushing is atomic and repeatable: pushers are killed at every side effect, and race each other."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from components.model_registry import ModelRegistry, Move, history
from components.registry_pusher.push import Pushed, differences, push
from components.registry_pusher.release import Release
from tests.components import pushers, releases
from trainer.aside import ABANDONED_AFTER_SECONDS

FIRST, SECOND, THIRD = "model-1", "model-2", "model-3"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("models")
    return {name: releases.export_model(directory / name, seed) for seed, name in enumerate((FIRST, SECOND, THIRD), 1)}


@pytest.fixture(scope="module")
def built(models, tmp_path_factory) -> dict[str, Release]:
    """The releases of the first two models, by their candidates' identities."""
    candidates = [releases.candidate(models[name], f"run-{number}") for number, name in enumerate((FIRST, SECOND), 1)]
    return releases.built(candidates, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module", autouse=True)
def _no_server():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture
def empty(empty_registry) -> Path:
    """A folder with a registry without models, to be copied."""
    return empty_registry.parent


def finished(process) -> int | None:
    process.join(timeout=120)
    return process.exitcode


def let_time_pass(path: Path) -> None:
    """Gives a file or folder the age at which it counts as abandoned."""
    hours_ago = time.time() - 2 * ABANDONED_AFTER_SECONDS
    for file in [path, *path.rglob("*")]:
        os.utime(file, (hours_ago, hours_ago))


def require_nothing_incomplete(root: Path, before: set[int]) -> None:
    """Demands what holds at any moment: all versions and served folders are complete, and the alias exists."""
    registry = ModelRegistry(str(root / "registry"))
    versions = registry.versions("encoder")
    for version in versions:
        if version.version not in before:
            assert differences(registry, version) == []
    if before:
        assert registry.aliased("encoder", "champion") is not None
    for folder in root.glob("serving/[0-9]*"):
        assert {path.name for path in folder.iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}


def require_whole(root: Path, version: int) -> None:
    """Demands what holds after a push: one new version, complete, champion and served; one move; no leftovers."""
    registry = ModelRegistry(str(root / "registry"))
    versions = registry.versions("encoder")
    assert [v.version for v in versions] == list(range(version, 0, -1))
    assert versions[0].aliases == ("champion",)
    assert differences(registry, versions[0]) == []
    moves = [(move.previous, move.version, move.by, move.completed) for move in registry.history("encoder")]
    assert moves[-1] == (version - 1 or None, version, f"run-{version}", True)
    assert len(moves) == version
    runs = registry.connection.client.search_runs([registry.connection.experiment_id("encoder")])
    assert {run.info.run_id for run in runs} == {v.run_id for v in versions}
    assert {run.info.status for run in runs} == {"FINISHED"}
    stored = [path for path in (root / "registry" / "artifacts" / "encoder").iterdir() if any(path.rglob("*.*"))]
    assert {path.name for path in stored} == {v.run_id for v in versions}
    served = root / "serving" / str(version)
    assert {path.name for path in served.iterdir()} >= {"saved_model.pb", "variables"}
    assert not [path for path in (root / "serving").iterdir() if not path.name.isdigit()]


@pytest.mark.long
@pytest.mark.parametrize("version", [1, 2])
def test_killed_at_any_side_effect_and_pushed_again_there_is_one_whole_version(
    version, models, built, empty, tmp_path, monkeypatch
):
    """The first push of a model, and a second one where there is a champion already."""
    run, baseline = f"run-{version}", version - 1 or None
    model = models[(FIRST, SECOND)[version - 1]]

    def prepared(name: object) -> Path:
        root = tmp_path / str(name)
        shutil.copytree(empty, root)
        if baseline:
            pushers._push(str(root), models[FIRST], "run-1", 0.4, None)
        return root

    root = prepared("noted")
    process = pushers.start(
        pushers.push_noting_changes, str(root), model, run, baseline, str(tmp_path / "notes"), built
    )
    assert finished(process) == 0
    require_whole(root, version)
    changes = (tmp_path / "notes").read_text().split("\n")
    assert {"create_run", "log_artifacts", "create_model_version", "set_registered_model_alias", "rename"} < set(
        changes
    )
    releases.use_built(built, monkeypatch.setattr)
    # To be killed after one is to be killed before the next. What a second push does before it registers is the same
    # as in a first one.
    begin = changes.index("create_model_version") if baseline else 0
    for index in range(begin, len(changes) + 1):
        if changes[index - 1 : index + 2] == ["put_file"] * 3:
            # Of the served folder's files, the first and the last are enough.
            continue
        root = prepared(index)
        after = index == len(changes)
        process = pushers.start(pushers.push_and_die, str(root), model, run, baseline, index - after, after, built)
        assert finished(process) == -9, (index, changes)
        require_nothing_incomplete(root, set(range(1, version)))
        for left in root.glob("serving/.*"):
            let_time_pass(left)
        pushers._push(str(root), model, run, 0.5, baseline)
        require_whole(root, version)


@pytest.mark.long
def test_two_pushers_at_once_leave_two_complete_versions_and_the_first_is_champion(models, empty, tmp_path):
    """The second encoder was not compared with the first one, so it is not promoted."""
    shutil.copytree(empty, tmp_path / "root")
    root = str(tmp_path / "root")
    processes = [
        pushers.start(pushers.push_at_once, root, models[model], run, accuracy, "encoder", {}, None, False)
        for model, run, accuracy in ((FIRST, "run-better", 0.7), (SECOND, "run-worse", 0.5))
    ]
    assert [finished(process) for process in processes] == [0, 0]
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    (move,) = require_raced(registry)
    assert (move.version, move.kind) == (1, "push")


def require_raced(registry: ModelRegistry, name: str = "encoder") -> list[Move]:
    versions = registry.versions(name)
    assert [v.version for v in versions] == [2, 1]
    assert [differences(registry, v) for v in versions] == [[], []]
    champion = registry.aliased(name, "champion")
    moves = registry.history(name)
    assert moves[-1].completed
    assert moves[-1].version == champion.version
    return moves


@pytest.mark.long
@pytest.mark.parametrize("better_is_late", [True, False])
def test_on_a_server_without_a_lock_the_first_push_wins_whichever_moves_the_alias_last(
    better_is_late, models, tmp_path, mlflow_server
):
    environment = {"MLFLOW_TRACKING_URI": mlflow_server}
    wait, name = pushers.barrier(2), f"raced-{better_is_late}"
    processes = [
        pushers.start(pushers.push_at_once, str(tmp_path), models[model], run, accuracy, name, environment, wait, late)
        for model, run, accuracy, late in (
            (FIRST, "run-better", 0.7, better_is_late),
            (SECOND, "run-worse", 0.5, not better_is_late),
        )
    ]
    assert [finished(process) for process in processes] == [0, 0]
    registry = ModelRegistry("unused")
    moves = require_raced(registry, name)
    # Both set the alias; the push that recorded its move first keeps it, whether its encoder is better or not.
    pushed = [move for move in moves if move.kind == "push"]
    assert [move.previous for move in pushed] == [None, None]
    assert registry.aliased(name, "champion").version == pushed[0].version
    assert {move.kind for move in moves} <= {"push", "settle"}


def test_the_same_encoder_pushed_twice_at_once_becomes_one_version(models, tmp_path, mlflow_server):
    environment = {"MLFLOW_TRACKING_URI": mlflow_server}
    wait = pushers.barrier(2)
    processes = [
        pushers.start(pushers.push_at_once, str(tmp_path), models[FIRST], run, 0.5, "same", environment, wait, False)
        for run in ("run-1", "run-2")
    ]
    codes = [finished(process) for process in processes]
    assert codes == [0, 0]
    registry = ModelRegistry("unused")
    (version,) = registry.versions("same")
    assert version.aliases == ("champion",)
    assert differences(registry, version) == []


def test_an_interrupted_race_is_settled_by_the_push_that_is_repeated(models, empty, tmp_path):
    shutil.copytree(empty, tmp_path / "root")
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    push(registry, "encoder", "champion", releases.candidate(models[FIRST], "run-first", 0.5))
    second = releases.candidate(models[SECOND], "run-second", 0.7)
    # Without a lock, the second push also sees no champion, moves the alias last, and is killed right after.
    push(registry, "encoder", "elsewhere", second)
    raced = replace(Move("champion", None, 2, history.PUSH, "run-second", "late").stamped(), done=True)
    registry.set_tag("encoder", *raced.as_tag())
    registry.connection.client.set_registered_model_alias("encoder", "champion", "2")
    stood_back = push(registry, "encoder", "champion", second)
    assert "Another encoder was pushed at the same time" in stood_back.not_promoted
    assert registry.aliased("encoder", "champion").version == 1
    assert [(move.version, move.kind) for move in registry.history("encoder") if move.alias == "champion"] == [
        *((1, "push"), (2, "push"), (1, "settle")),
    ]
    # A late push does not undo what a person decided since then.
    registry.move_alias("encoder", Move("champion", None, 2, history.PROMOTE, "ada@box", "I know better"))
    push(registry, "encoder", "champion", second)
    assert registry.aliased("encoder", "champion").version == 2


@pytest.mark.parametrize("accuracy", [0.9, 0.7, 0.6])
def test_a_candidate_is_not_promoted_if_the_champion_changed_during_the_run(accuracy, models, empty, tmp_path):
    """Its accuracy does not matter, because the evaluation compared it with another champion."""
    shutil.copytree(empty, tmp_path / "root")
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    push(registry, "encoder", "champion", releases.candidate(models[FIRST], "run-1", 0.7))
    late = push(registry, "encoder", "champion", releases.candidate(models[SECOND], "run-2", accuracy))
    assert (late.new, late.moved, late.version.aliases) == (True, False, ())
    assert "The champion became version 1 during the run (push by run-1): run again" in late.not_promoted
    assert registry.aliased("encoder", "champion").version == 1
    # Compared with that champion and blessed, it goes ahead.
    again = push(registry, "encoder", "champion", releases.candidate(models[SECOND], "run-3", accuracy, champion=1))
    assert (again.new, again.moved, again.not_promoted) == (False, True, None)
    assert [move.version for move in registry.history("encoder")] == [1, 2]


@pytest.mark.long
def test_an_alias_that_a_person_moved_during_the_run_stays(models, empty, tmp_path):
    shutil.copytree(empty, tmp_path / "root")
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    push(registry, "encoder", "champion", releases.candidate(models[FIRST], "run-1", 0.7))
    push(registry, "encoder", "champion", releases.candidate(models[SECOND], "run-2", 0.9, champion=1))
    # In MLflow's page, version 2 is taken out of service.
    registry.connection.client.set_registered_model_alias("encoder", "champion", "1")
    during = push(registry, "encoder", "champion", releases.candidate(models[SECOND], "run-3", 0.9, champion=2))
    assert "was moved to version 1 during the run by other means than nnclr" in during.not_promoted
    assert registry.aliased("encoder", "champion").version == 1
    # A run that began afterwards was compared with version 1. Nobody raced it, and version 2 stays out of service.
    after = push(registry, "encoder", "champion", releases.candidate(models[THIRD], "run-4", 0.6, champion=1))
    assert (after.moved, after.not_promoted) == (True, None)
    kinds = [(move.previous, move.version, move.kind) for move in registry.history("encoder")]
    assert kinds == [(None, 1, "push"), (1, 2, "push"), (2, 1, "external"), (1, after.version.version, "push")]
    assert registry.rollback_target("encoder", "champion").version == 1


def test_a_race_is_not_settled_if_a_person_moved_the_alias(models, empty, tmp_path):
    shutil.copytree(empty, tmp_path / "root")
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    for number, model in enumerate((FIRST, SECOND, THIRD)):
        push(registry, "encoder", f"alias-{number}", releases.candidate(models[model], f"run-{number}", 0.5))
    # Versions 1 and 2 raced, and version 1 won; then a person chose version 3 on MLflow's page.
    for version in (1, 2):
        raced = Move("champion", None, version, history.PUSH, f"run-{version}", "raced").stamped()
        registry.set_tag("encoder", *replace(raced, done=True).as_tag())
    registry.connection.client.set_registered_model_alias("encoder", "champion", "3")
    late = push(registry, "encoder", "champion", releases.candidate(models[SECOND], "run-2", 0.5))
    assert "was moved to version 3 during the run by other means than nnclr" in late.not_promoted
    assert registry.aliased("encoder", "champion").version == 3


def test_an_alias_that_a_person_deleted_is_not_set_again_by_a_push(models, empty, tmp_path):
    shutil.copytree(empty, tmp_path / "root")
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    push(registry, "encoder", "champion", releases.candidate(models[FIRST], "run-1", 0.7))
    registry.connection.client.delete_registered_model_alias("encoder", "champion")
    stopped = push(registry, "encoder", "champion", releases.candidate(models[SECOND], "run-2", 0.9))
    assert "pointed to version 1 and was deleted by other means than nnclr" in stopped.not_promoted
    assert registry.aliased("encoder", "champion") is None


def test_a_push_of_the_same_encoder_restores_lost_files(models, empty, tmp_path):
    shutil.copytree(empty, tmp_path / "root")
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    candidate = releases.candidate(models[FIRST], "run-1", 0.7)
    push(registry, "encoder", "champion", candidate)
    shutil.rmtree(tmp_path / "root" / "registry" / "artifacts")
    assert differences(registry, registry.version("encoder", 1)) != []
    again = push(registry, "encoder", "champion", candidate)
    assert (again.new, again.version.version) == (False, 1)
    assert differences(registry, again.version) == []
    assert [version.aliases for version in registry.versions("encoder")] == [("champion",)]


@pytest.fixture
def manual(models, empty, tmp_path, monkeypatch):
    """An empty registry, and what pushes a model to it with manual approval after a comparison with a champion."""
    shutil.copytree(empty, tmp_path / "root")
    releases.use_stubs(tmp_path / "stubs", monkeypatch.setattr)
    registry = ModelRegistry(str(tmp_path / "root" / "registry"))
    served = str(tmp_path / "root" / "serving")

    def push_for_approval(model: str, run: str, champion: int | None = None) -> Pushed:
        candidate = releases.candidate(models[model], run, 0.5, champion, approval="manual")
        return push(registry, "encoder", "champion", candidate, served)

    return registry, push_for_approval


def promote(registry: ModelRegistry, version: int, alias: str = "champion") -> None:
    registry.move_alias("encoder", Move(alias, None, version, history.PROMOTE, "ada@box", "approved"))
    registry.end_challenge("encoder", alias)


def aliases(registry: ModelRegistry) -> dict[str, int]:
    return {alias: version.version for version in registry.versions("encoder") for alias in version.aliases}


def test_with_manual_approval_an_encoder_waits_as_challenger_until_it_is_promoted(manual, tmp_path):
    registry, push_for_approval = manual
    first = push_for_approval(FIRST, "run-1")
    assert (first.outcome, first.new, first.moved, first.version.aliases) == ("challenger", True, True, ("challenger",))
    assert "version 1 waits as challenger until a person promotes it" in first.not_promoted
    assert first.promotion == "nnclr models promote 1 --name encoder --reason REASON"
    # Nobody approved it, so that neither Serving nor the next comparison gets it.
    assert list((tmp_path / "root" / "serving").iterdir()) == []
    assert registry.best_release("encoder", "champion") is None
    # Scheduled runs with the same encoder change nothing.
    again = push_for_approval(FIRST, "run-2")
    assert (again.outcome, again.new, again.moved) == ("unchanged", False, False)
    assert again.promotion == first.promotion
    assert len(registry.history("encoder")) == 1
    # A newer one takes its place; the older version stays until it is pruned.
    second = push_for_approval(SECOND, "run-3")
    assert (second.outcome, aliases(registry)) == ("challenger", {"challenger": 2})
    assert "It replaces version 1 with a probe accuracy of 50.0% on the same labelled images." in second.not_promoted
    assert [version.version for version in registry.versions_to_prune("encoder", keep=0)] == [1]
    # A trial under another alias is no promotion.
    promote(registry, 2, "canary")
    assert aliases(registry) == {"challenger": 2, "canary": 2}
    promote(registry, 2)
    assert aliases(registry) == {"champion": 2, "canary": 2}
    assert [(move.alias, move.version, move.kind, move.by) for move in registry.history("encoder")] == [
        *(("challenger", 1, "push", "run-1"), ("challenger", 2, "push", "run-3")),
        *(("canary", 2, "promote", "ada@box"), ("champion", 2, "promote", "ada@box")),
    ]
    # The champion itself needs no approval, and an older challenger that a newer one replaced may wait again.
    assert push_for_approval(SECOND, "run-4", champion=2).outcome == "unchanged"
    assert (tmp_path / "root" / "serving" / "2").exists()
    assert push_for_approval(FIRST, "run-5", champion=2).outcome == "challenger"
    assert aliases(registry) == {"champion": 2, "canary": 2, "challenger": 1}
    assert registry.versions_to_prune("encoder", keep=0) == []
    assert registry.rollback_target("encoder", "champion") is None


@pytest.mark.parametrize("decision", ["removed", "promoted and rolled back", "taken over on MLflow's page"])
def test_a_person_decides_on_a_challenger_once(decision, manual):
    registry, push_for_approval = manual
    push_for_approval(FIRST, "run-1")
    promote(registry, 1)
    push_for_approval(SECOND, "run-2", champion=1)
    if decision == "removed":
        # On MLflow's page.
        registry.connection.client.delete_registered_model_alias("encoder", "challenger")
    elif decision == "taken over on MLflow's page":
        registry.connection.client.set_registered_model_alias("encoder", "challenger", "1")
    else:
        promote(registry, 2)
        registry.move_alias("encoder", Move("champion", None, 1, history.ROLLBACK, "ada@box", "slow"))
    again = push_for_approval(SECOND, "run-3", champion=1)
    assert (again.outcome, again.moved, aliases(registry)) == ("unchanged", False, {"champion": 1})
    assert "Version 2 was the challenger before, and a person decided on it" in again.not_promoted
    assert again.promotion == "nnclr models promote 2 --name encoder --reason REASON"


def test_a_challenger_must_have_been_compared_with_the_present_champion(manual):
    registry, push_for_approval = manual
    push_for_approval(FIRST, "run-1")
    promote(registry, 1)
    late = push_for_approval(SECOND, "run-2")
    assert (late.outcome, late.promotion, aliases(registry)) == ("not promoted", None, {"champion": 1})
    assert "The champion became version 1 during the run (promote by ada@box): run again" in late.not_promoted


def test_with_automatic_approval_a_waiting_encoder_becomes_champion_and_waits_no_longer(manual, models):
    registry, push_for_approval = manual
    push_for_approval(FIRST, "run-1")
    pushed = push(registry, "encoder", "champion", releases.candidate(models[FIRST], "run-2", 0.5))
    assert (pushed.outcome, pushed.not_promoted, aliases(registry)) == ("released", None, {"champion": 1})


@pytest.mark.long
def test_on_a_server_without_a_lock_one_of_two_encoders_waits(models, tmp_path, mlflow_server):
    environment, wait = {"MLFLOW_TRACKING_URI": mlflow_server}, pushers.barrier(2)
    processes = [
        pushers.start(
            *(pushers.push_at_once, str(tmp_path), models[model], run, 0.5, "challengers", environment, wait, late),
            "manual",
        )
        for model, run, late in ((FIRST, "run-1", False), (SECOND, "run-2", True))
    ]
    assert [finished(process) for process in processes] == [0, 0]
    registry = ModelRegistry("unused")
    versions = registry.versions("challengers")
    assert [differences(registry, version) for version in versions] == [[], []]
    (last,) = [version for version in versions if version.aliases]
    assert (last.aliases, registry.details(last).tags["pipeline_run"]) == (("challenger",), "run-2")
    assert [move.alias for move in registry.history("challengers")] == ["challenger", "challenger"]

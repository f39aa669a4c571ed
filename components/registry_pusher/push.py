"""Registers a blessed encoder as a version and makes it the champion, or the challenger, exactly once.

A push can be interrupted at any step, even by SIGKILL, and repeated: it continues with what is complete and deletes
what is not. The alias moves only after the version was downloaded again and computed the same embeddings.

With `registry.approval: manual`, the alias is `challenger`, and a person decides whether the version becomes the
champion.
"""

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.model_registry import DamagedVersion, ModelRegistry, Move, Version, history, pipeline_runs
from components.model_registry.config import CHALLENGER, ChampionSettings
from components.registry_pusher import release, serving, verification
from components.registry_pusher.release import Candidate


@dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        version: The encoder's version in the registry.
        new: Whether the push registered the version.
        moved: Whether the push moved an alias to the version.
        outcome: The outcome of the run, see `pipeline_runs.PipelineRun`.
        not_promoted: Why the champion's alias does not point to the version, in sentences; None if it does.
        promotion: The command by which a person makes the version the champion; None if that is not for a person to
            decide.
        served: The folder from which TensorFlow Serving serves the champion; None if it is not served.
    """

    version: Version
    new: bool
    moved: bool
    outcome: str
    not_promoted: str | None = None
    promotion: str | None = None
    served: str | None = None


def push(
    registry: ModelRegistry,
    name: str,
    alias: str,
    candidate: Candidate,
    serving_directory: str | None = None,
) -> Pushed:
    """Registers a candidate, unless it is already registered, and points the alias to its version.

    The evaluation decides whether an encoder may replace the champion, and it compared the candidate with one version.
    If the alias points to another version by now, it stays there, and the run has to be repeated. With manual approval,
    the same holds of the alias `challenger`.

    Args:
        registry: The registry.
        name: The name of the registered model, which is created if it does not exist.
        alias: The alias that marks the champion.
        candidate: The blessed encoder.
        serving_directory: The folder that TensorFlow Serving watches; None to publish only where the registered model
            was published before.

    Raises:
        DamagedVersion: If the registry returns other files than were registered, or they compute other embeddings.
        SettingsError: If the serving directory cannot be written to, or holds versions that others published.
    """
    pipeline_run = candidate.pipeline_run
    with registry.locked():
        if serving_directory:
            serving.require_usable(registry, name, serving_directory)
        champion = registry.aliased(name, alias)
        version, new = _register_or_repair(registry, name, alias, candidate)
        registry.delete_abandoned_runs(name, candidate.identity)
        not_promoted = _reason_not_to_promote(registry, candidate, version, alias, champion)
        is_champion = champion is not None and champion.version == version.version
        waits = not (not_promoted or is_champion) and candidate.settings.registry.approval == "manual"
        moved = False
        reason = f"{release.headline(candidate.metrics)}, blessed by run {pipeline_run}."
        if waits:
            moved, not_promoted = _challenge(registry, version, alias, pipeline_run, reason)
        elif not (not_promoted or is_champion):
            _require_intact(registry, version)
            registry.move_alias(name, Move(alias, None, version.version, history.PUSH, pipeline_run, reason))
            moved = True
        registry.end_challenge(name, alias)
        _settle_race(registry, name, alias, pipeline_run)
        if serving_directory:
            serving.record_folder(registry, name, serving_directory)
        served = serving.serve_champion(registry, name, alias)
        version = registry.version(name, version.version)
        if moved and waits and CHALLENGER not in version.aliases:
            not_promoted = f"{not_promoted} But the alias moved on at the same time."
        if not not_promoted and alias not in version.aliases:
            not_promoted, moved = "Another encoder was pushed at the same time: run again to compare with it.", False
    if not_promoted and not waits:
        outcome = pipeline_runs.NOT_PROMOTED
    elif new or moved:
        outcome = pipeline_runs.CHALLENGER if waits else pipeline_runs.RELEASED
    else:
        outcome = pipeline_runs.UNCHANGED
    promotion = _promotion(version, alias) if waits else None
    return Pushed(version, new, moved, outcome, not_promoted, promotion, served)


def differences(registry: ModelRegistry, version: Version) -> list[str]:
    """Returns how a version differs from what was registered: a clause for each file, or one for its embeddings."""
    with tempfile.TemporaryDirectory() as aside:
        copy = registry.download_even_if_damaged(version, aside)
        # A damaged model is not loaded.
        return copy.damage or verification.differences(copy.directory)


def _require_intact(registry: ModelRegistry, version: Version) -> None:
    damage = differences(registry, version)
    if damage:
        raise DamagedVersion(f"{version.uri}: {'; '.join(damage)}")


def _challenge(
    registry: ModelRegistry, version: Version, alias: str, pipeline_run: str, reason: str
) -> tuple[bool, str]:
    """Makes a version the challenger; returns whether it was not before, and why it is not the champion, in sentences.

    A push does not undo a decision: a version that was promoted, or lost the alias by other means than a newer
    challenger, does not get it again.
    """
    waiting = registry.aliased(version.name, CHALLENGER)
    moves = registry.history(version.name)
    if history.taken_away(moves, CHALLENGER, version.version, waiting.version if waiting else None):
        return False, (
            f"Version {version.version} was the {CHALLENGER} before, and a person decided on it: it does not become "
            f"the {CHALLENGER} again, but can still be promoted."
        )
    news = f"registry.approval is manual: version {version.version} waits as {CHALLENGER} until a person promotes it."
    if waiting and waiting.version == version.version:
        return False, news
    _require_intact(registry, version)
    registry.challenge(version.name, alias, version.version, pipeline_run, reason)
    if waiting:
        figure = waiting.probe_accuracy if waiting.test_data == version.test_data else None
        measured = "" if figure is None else f" with a probe accuracy of {figure:.1%} on the same labelled images"
        news += f" It replaces version {waiting.version}{measured}."
    return True, news


def _promotion(version: Version, alias: str) -> str:
    """Returns the command that makes a version the champion."""
    other = f" --alias {alias}" if alias != ChampionSettings.model_fields["alias"].default else ""
    return f"nnclr models promote {version.version} --name {shlex.quote(version.name)}{other} --reason REASON"


def _register_or_repair(registry: ModelRegistry, name: str, alias: str, candidate: Candidate) -> tuple[Version, bool]:
    """Returns the candidate's version, whose files are intact, and whether it is new."""
    registered = registry.find_release(name, candidate.identity)
    with tempfile.TemporaryDirectory() as aside:
        if registered and not registry.download_even_if_damaged(registered, f"{aside}/stored").damage:
            return registered, False
        built = release.build(candidate, name, alias, Path(aside, "model"))
        if registered:
            return registry.repair(registered, built), False
        return registry.register(name, built), True


def _reason_not_to_promote(
    registry: ModelRegistry, candidate: Candidate, version: Version, alias: str, champion: Version | None
) -> str | None:
    """Returns why the alias must stay: it has moved since the candidate was compared. None if it may move."""
    baseline = candidate.metrics.champion_version
    moves = history.completed_moves(registry.history(version.name), alias)
    last = moves[-1] if moves else None
    if champion is None:
        if last is None:
            return None
        return (
            f"The alias {alias} pointed to version {last.version} and was deleted by other means than nnclr: point it "
            "to a version with nnclr models promote, and run again to compare with that."
        )
    if champion.version in (version.version, baseline):
        return None
    if last is None or last.version != champion.version:
        return (
            f"The alias {alias} was moved to version {champion.version} during the run by other means than nnclr: run "
            "again to compare with that."
        )
    return (
        f"The champion became version {champion.version} during the run ({last.kind} by {last.by}): run again to "
        "compare with it."
    )


def _settle_race(registry: ModelRegistry, name: str, alias: str, pipeline_run: str) -> None:
    """Gives the alias to the first of several pushes that raced, all of which started from the same champion.

    A server offers no lock, so the last push has the alias, although its encoder was not compared with the first one's.
    That push gives the alias back, unless a person or another tool has moved it meanwhile.
    """
    moves = history.completed_moves(registry.history(name), alias)
    if not moves or (moves[-1].kind, moves[-1].by) != (history.PUSH, pipeline_run):
        return
    raced: list[Move] = []
    for move in reversed(moves):
        if move.kind != history.PUSH or (raced and move.previous != raced[-1].previous):
            break
        raced.append(move)
    champion = registry.aliased(name, alias)
    if len(raced) < 2 or champion is None or champion.version not in {move.version for move in raced}:
        return
    first = raced[-1]
    numbers = ", ".join(str(move.version) for move in reversed(raced))
    reason = f"Versions {numbers} were pushed at the same time; version {first.version} was the first."
    registry.move_alias(name, Move(alias, None, first.version, history.SETTLE, pipeline_run, reason))

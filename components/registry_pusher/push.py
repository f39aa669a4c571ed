"""Makes a blessed encoder a version of the registry, and its champion, once.

Each step can be broken off, even by SIGKILL, and the whole be done again: what is there is found, what is half is
cleared up. The alias moves after the version has proven to load back and to compute the same.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.model_registry import DamagedVersion, ModelRegistry, Move, Version, history
from components.registry_pusher import release, serving, verification
from components.registry_pusher.release import Candidate


@dataclass(frozen=True)
class Pushed:
    """What a push came to.

    Attributes:
        version: of the registry.
        new: whether it was not there before.
        moved: whether the alias moved to it.
        not_promoted: why the alias did not move to it, if it is not there.
        served: folder for TensorFlow Serving, if one is published.
    """

    version: Version
    new: bool
    moved: bool
    not_promoted: str | None = None
    served: str | None = None


def push(
    registry: ModelRegistry,
    name: str,
    alias: str,
    candidate: Candidate,
    serving_directory: str | None = None,
) -> Pushed:
    """Registers a candidate, unless it is registered, and points the alias to it.

    Whether an encoder may replace the champion is decided by the evaluation alone, which compared it with one champion.
    Where the alias points to another version by now, it stays there, and the run is to be repeated.

    Args:
        registry: to push to.
        name: of the registered model, created if it is new.
        alias: that marks the champion.
        candidate: blessed.
        serving_directory: that TensorFlow Serving watches, if it shall be published.

    Raises:
        DamagedVersion: what the registry gives back is not what it was given.
        SettingsError: the serving directory cannot be written to, or holds what others published there.
    """
    by = candidate.pipeline_run
    with registry.locked():
        if serving_directory:
            serving.require_usable(registry, name, serving_directory)
        champion = registry.aliased(name, alias)
        version, new = _registered(registry, name, alias, candidate)
        registry.clear_up(name, candidate.identity)
        not_promoted = _reason_not_to_promote(registry, candidate, version, alias, champion)
        moved = False
        if not not_promoted and (champion is None or champion.version != version.version):
            found = differences(registry, version)
            if found:
                raise DamagedVersion(f"{version.uri}: {'; '.join(found)}")
            reason = f"Linear probe {version.probe_accuracy:.1%}, blessed by run {by}."
            registry.move_alias(name, Move(alias, None, version.version, history.PUSH, by, reason))
            moved = True
        _settle(registry, name, alias, by)
        if serving_directory:
            serving.watch(registry, name, serving_directory)
        served = serving.serve_champion(registry, name, alias)
        now = registry.version(name, version.version)
        if not not_promoted and alias not in now.aliases:
            not_promoted, moved = "Another encoder was pushed at the same time: run again to compare with it.", False
    return Pushed(now, new, moved, not_promoted, served)


def _registered(registry: ModelRegistry, name: str, alias: str, candidate: Candidate) -> tuple[Version, bool]:
    """The candidate's version, whole, and whether it was made now."""
    known = registry.find(name, candidate.identity)
    with tempfile.TemporaryDirectory() as aside:
        if known is not None and not registry.download_as_is(known, f"{aside}/stored")[1]:
            return known, False
        made = release.build(candidate, name, alias, Path(aside, "model"))
        return (registry.register(name, made), True) if known is None else (registry.repair(known, made), False)


def differences(registry: ModelRegistry, version: Version) -> list[str]:
    """What differs in a version from what was registered: a clause for each file, or for its embeddings."""
    with tempfile.TemporaryDirectory() as aside:
        folder, damage = registry.download_as_is(version, aside)
        # What is damaged is not run.
        return damage or verification.differences(folder)


def _reason_not_to_promote(
    registry: ModelRegistry, candidate: Candidate, version: Version, alias: str, champion: Version | None
) -> str | None:
    """Why the alias must stay where it is: it points elsewhere than when the candidate was compared."""
    baseline = candidate.metrics.champion_version
    moves = [move for move in registry.history(version.name) if move.alias == alias and move.completed]
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


def _settle(registry: ModelRegistry, name: str, alias: str, by: str) -> None:
    """Gives the alias to the first of several racing pushes, which all started from the same champion.

    A server has no lock, so that the last of them has it, although nobody compared it with the first one. The last one
    gives it back; what was moved since then stays.
    """
    moves = [move for move in registry.history(name) if move.alias == alias and move.completed]
    if not moves or (moves[-1].kind, moves[-1].by) != (history.PUSH, by):
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
    reason = f"Versions {numbers} were pushed at once; this is the first one."
    registry.move_alias(name, Move(alias, None, first.version, history.SETTLE, by, reason))

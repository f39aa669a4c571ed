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
        standing_back: why the alias did not move to it, if it is not there.
        served: folder for TensorFlow Serving, if one is published.
    """

    version: Version
    new: bool
    moved: bool
    standing_back: str | None = None
    served: str | None = None


def push(
    registry: ModelRegistry,
    name: str,
    alias: str,
    candidate: Candidate,
    serving_directory: str | None = None,
) -> Pushed:
    """Registers a candidate, unless it is registered, and points the alias to it.

    If the champion is another one by now than the candidate was compared with (two runs raced), the better one of both
    is champion in the end.

    Args:
        registry: to push to.
        name: of the registered model, created if it is new.
        alias: that marks the champion.
        candidate: blessed.
        serving_directory: that TensorFlow Serving watches, if it shall be published.

    Raises:
        DamagedVersion: what the registry gives back is not what it was given.
    """
    by = candidate.provenance["pipeline_run"]
    with registry.locked():
        champion = registry.aliased(name, alias)
        known = registry.find(name, candidate.identity)
        with tempfile.TemporaryDirectory() as aside:
            version = known or registry.register(name, release.build(candidate, name, alias, Path(aside, "model")))
        registry.clear_up(name, candidate.identity)
        standing_back = _reason_to_stand_back(candidate, version, champion)
        moved = False
        if not standing_back and (champion is None or champion.version != version.version):
            found = differences(registry, version)
            if found:
                raise DamagedVersion(f"{version.uri}: {'; '.join(found)}")
            reason = f"Linear probe {version.probe_accuracy:.1%}, blessed by run {by}."
            registry.move_alias(name, Move(alias, None, version.version, history.PUSH, by, reason))
            moved = True
        _settle(registry, version, alias, candidate.metrics["baseline_version"], by)
        if serving_directory:
            serving.watch(registry, name, serving_directory)
        served = serving.serve_champion(registry, name, alias)
        now = registry.version(name, version.version)
        if not standing_back and alias not in now.aliases:
            standing_back, moved = "A better encoder was pushed at the same time.", False
    return Pushed(now, known is None, moved, standing_back, served)


def differences(registry: ModelRegistry, version: Version) -> list[str]:
    """What differs in a version from what was registered: a clause for each file, or for its embeddings."""
    with tempfile.TemporaryDirectory() as aside:
        folder, damage = registry.download_as_is(version, aside)
        # What is damaged is not run.
        return damage or verification.differences(folder)


def _reason_to_stand_back(candidate: Candidate, version: Version, champion: Version | None) -> str | None:
    """Why the alias must stay where it is: the champion changed since the candidate was compared with it."""
    if champion is None or champion.version in (version.version, candidate.metrics["baseline_version"]):
        return None
    if champion.test_data != version.test_data:
        return (
            f"The champion became version {champion.version} during the run, which was measured on other images: "
            "run again to compare with it."
        )
    ours, theirs = version.probe_accuracy or 0.0, champion.probe_accuracy or 0.0
    if ours <= theirs:
        return (
            f"The champion became version {champion.version} during the run, with a probe accuracy of {theirs:.1%}, "
            f"and this encoder has {ours:.1%}."
        )
    return None


def _settle(registry: ModelRegistry, version: Version, alias: str, baseline: int | None, by: str) -> None:
    """Gives the alias to the best of all that were pushed since `baseline` was champion, without knowing each other.

    A server has no lock, so the last of them has it, be it better or not. What somebody moved by hand since then stays.
    """
    raced: set[int] = set()
    for move in reversed([move for move in registry.history(version.name) if move.alias == alias]):
        if move.kind not in (history.PUSH, history.SETTLE) or move.version == baseline:
            break
        raced.add(move.version)
    contenders = [
        other
        for other in registry.versions(version.name)
        if other.version in raced and other.test_data == version.test_data
    ]
    if len(contenders) < 2:
        return
    best = max(contenders, key=lambda other: (other.probe_accuracy or 0.0, other.version))
    numbers = ", ".join(str(other.version) for other in reversed(contenders))
    reason = f"Versions {numbers} were pushed at once; this is the better one."
    registry.move_alias(version.name, Move(alias, None, best.version, history.SETTLE, by, reason))

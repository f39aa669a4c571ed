"""Finds out what a run works on. Where a run is started from a machine that sees the data, this is done beforehand."""

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from components.data_resolver import spans
from components.image_example_gen.fingerprint import fingerprint
from components.image_example_gen.sources.opening import open_labelled, open_source
from components.model_registry.pipeline_runs import NOTHING_NEW, PipelineRun, PipelineRuns, data_identity
from trainer.errors import SettingsError


@dataclass(frozen=True)
class Resolution:
    """What a run works on.

    Attributes:
        source: one place of images, no pattern.
        fingerprint: of its contents.
        labelled_fingerprint: of the labelled set's; empty if there is none of its own.
        passed_over: a sentence for each newer span that is not complete yet.
    """

    source: str
    fingerprint: str
    labelled_fingerprint: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """See `pipeline_runs.data_identity`."""
        return data_identity(self.fingerprint, self.labelled_fingerprint)


def resolve(
    source: str,
    span: str | None = None,
    settled_minutes: float | None = None,
    labelled: str | None = None,
    known_fingerprint: str = "",
    memory: Path | None = None,
) -> Resolution:
    """Finds the images and their fingerprints.

    Args:
        source: a place of images, or a pattern of many; see `spans`.
        span: see `spans.newest`.
        settled_minutes: see `spans.newest`.
        labelled: place of the labelled set, if it has one of its own.
        known_fingerprint: of the source, if it need not be computed.
        memory: see `fingerprint`.

    Raises:
        DataError: there is nothing that can be used.
        SettingsError: the pattern or the span is unknown, or there is a span and no pattern.
    """
    passed_over: tuple[str, ...] = ()
    if spans.is_pattern(source):
        found = spans.newest(source, span, settled_minutes)
        source, passed_over = found.span.path, found.passed_over
    elif span:
        raise SettingsError(
            f"data.span is {span}, but data.source {source} names one place: put {{YYYY}}-{{MM}}-{{DD}} or {{SPAN}} "
            "into it."
        )
    return Resolution(
        source,
        known_fingerprint or fingerprint(open_source(source), memory),
        fingerprint(open_labelled(labelled), memory) if labelled else "",
        passed_over,
    )


def recipe(settings: dict[str, Any]) -> str:
    """Identity of the settings that decide on an encoder, and of the version of this code.

    Args:
        settings: a tree of JSON values.
    """
    tree = json.dumps([metadata.version("nnclr"), settings], sort_keys=True)
    return hashlib.sha256(tree.encode()).hexdigest()[:32]


def nothing_new(runs: PipelineRuns, run: str, found: Resolution, made_by: str, champion: int | None) -> str | None:
    """Whether an earlier run trained on the same images by the same recipe; if so, this run is recorded as such.

    Args:
        runs: to look into.
        run: identity of this one.
        found: what it would work on.
        made_by: see `recipe`.
        champion: version of the present champion, if there is one.

    Returns:
        A sentence that says which, and what came of it.
    """
    earlier = runs.settled(found.identity, made_by, champion)
    if earlier is None:
        return None
    came_to = f"{earlier.outcome}, version {earlier.version}" if earlier.version else earlier.outcome
    sentence = (
        f"Nothing new: run {earlier.run} of {earlier.at:%Y-%m-%d %H:%M} UTC trained on the same images with the same "
        f"settings ({came_to}). Nothing is trained."
    )
    runs.record(PipelineRun(run, NOTHING_NEW, sentence, found.source, found.identity, made_by, earlier.version))
    return sentence

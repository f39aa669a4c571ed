"""Resolves which images a run uses. A machine that sees the data does so before it starts the run."""

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from components.data_resolver import spans
from components.data_resolver.config import DataSettings
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import fingerprint
from components.image_example_gen.sources import span_window
from components.image_example_gen.sources.opening import open_labelled, open_source
from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import NOTHING_NEW, PipelineRun, PipelineRuns, data_identity
from components.run_settings import RunSettings
from trainer.errors import SettingsError


@dataclass(frozen=True)
class Resolution:
    """The images of a run.

    Attributes:
        source: Path or URI of the images, or of several spans (see `span_window.joined`); never a pattern.
        fingerprint: Fingerprint of the source's contents.
        labelled_fingerprint: Fingerprint of the separate labelled set; empty if there is none.
        passed_over: A sentence for each span that is not complete yet, or whose date does not exist.
    """

    source: str
    fingerprint: str
    labelled_fingerprint: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Identity of all images, see `pipeline_runs.data_identity`."""
        return data_identity(self.fingerprint, self.labelled_fingerprint)


def resolve(settings: DataSettings, labelled: str | None = None, memory: Path | None = None) -> Resolution:
    """Resolves the span and the fingerprint of the data.

    Args:
        settings: Where the images are, and which of them are ingested.
        labelled: Path or URI of a separate labelled set, if there is one.
        memory: Folder that keeps the digests of local files from run to run, see `fingerprint`.

    Raises:
        DataError: If there are no usable images.
        SettingsError: If there is no such span, or the source is no pattern and a span is set.
    """
    source, ingest = settings.source or "", settings.narrow(IngestSettings)
    passed_over: tuple[str, ...] = ()
    if spans.is_pattern(source):
        count = None if settings.spans == "all" else settings.spans
        newest = spans.newest(source, settings.span or None, settings.settled_minutes, count)
        source, passed_over = span_window.joined([span.path for span in newest.spans]), newest.passed_over
    elif settings.span:
        raise SettingsError(
            f"data.span is {settings.span}, but data.source {source} has no placeholder: put {{YYYY}}-{{MM}}-{{DD}} or "
            "{SPAN} into it, or remove data.span."
        )
    return Resolution(
        source,
        settings.fingerprint or fingerprint(open_source(source, ingest), memory),
        fingerprint(open_labelled(labelled, ingest), memory) if labelled else "",
        passed_over,
    )


def settings_fingerprint(settings: RunSettings) -> str:
    """Returns a fingerprint of nnclr's version and the settings that decide on an encoder: 32 hexadecimal digits."""
    tree = json.dumps([metadata.version("nnclr"), settings.deciding()], sort_keys=True)
    return hashlib.sha256(tree.encode()).hexdigest()[:32]


def nothing_new(registry: ModelRegistry, settings: RunSettings, run: str, data: Resolution) -> str | None:
    """Returns why there is nothing new to train on, if an earlier run used the same images and settings.

    In that case this run is recorded with the outcome `nothing new`.

    Args:
        registry: The registry that records the runs.
        settings: All settings of the run.
        run: Id of the run.
        data: The images of the run.

    Returns:
        A sentence that names the earlier run and its outcome; None if there is something new.
    """
    model_name, fingerprint_of_settings = settings.registry.model_name, settings_fingerprint(settings)
    runs = PipelineRuns(registry, model_name)
    champion = registry.aliased(model_name, settings.registry.alias)
    earlier = runs.settled(data.identity, fingerprint_of_settings, champion.version if champion else None)
    if earlier is None:
        return None
    outcome = f"{earlier.outcome}, version {earlier.version}" if earlier.version else earlier.outcome
    sentence = (
        f"Nothing new: run {earlier.run} of {earlier.at:%Y-%m-%d %H:%M} UTC trained on the same images with the same "
        f"settings ({outcome}). Nothing is trained."
    )
    runs.record(
        PipelineRun(run, NOTHING_NEW, sentence, data.source, data.identity, fingerprint_of_settings, earlier.version)
    )
    return sentence

"""Runs the pipeline on this machine with TFX's LocalDagRunner."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape

from components.data_gate import artifact as data_gate_artifact
from components.image_example_gen import artifact as examples_artifact
from components.linear_probe_evaluator.config import REFERENCES, EvaluatorSettings
from pipeline import config
from pipeline.config import Settings
from pipeline.config.kubeflow import DATA_GATE
from pipeline.local import summary
from pipeline.local.paths import absolute
from pipeline.local.summary import ComponentSummary, Summary
from pipeline.local.workdir import Workdir
from pipeline.terminal import imports
from pipeline.terminal.screen import Screen
from trainer import progress, splits
from trainer.errors import SettingsError, Stopped
from trainer.progress import Reporter

if TYPE_CHECKING:
    from components.data_resolver.resolution import Resolution
    from components.model_registry import ModelRegistry
    from pipeline.local.lineage import Lineage

logger = logging.getLogger("nnclr")


def run(settings: Settings, workdir: Workdir, run_id: str, screen: Screen, enable_cache: bool = True) -> Summary:
    """Runs all components, and writes the run's summary and report into the run's folder.

    Args:
        settings: All settings. The data source must be set.
        workdir: The working directory, locked.
        run_id: The run's id.
        screen: Shows the progress.
        enable_cache: Whether to reuse the earlier result of a component with the same inputs and parameters.

    Raises:
        UserError: If something that the user gave cannot be used.
    """
    settings = _with_absolute_paths(settings, workdir)
    screen.waiting("Reading the data's fingerprint")
    with _own_arguments():
        # Only now: these imports take seconds, and MLflow's registry loads most of itself when it is opened.
        with imports.gc_paused():
            from components.data_resolver.resolution import nothing_new
            from components.model_registry import ModelRegistry
            from components.model_registry.pipeline_runs import NOTHING_NEW
            from pipeline.local import tracking

            registry = ModelRegistry(str(workdir.registry))
        with _failures_recorded(registry, run_id, settings):
            data = _resolve(settings, workdir, screen)
            with tracking.tracked(registry, settings, workdir, run_id, data):
                reason = nothing_new(registry, settings, run_id, data) if settings.data.only_new else None
                if reason:
                    result = Summary(run_id=run_id, outcome=NOTHING_NEW, source=data.source, nothing_new=reason)
                else:
                    result = _run_components(settings, workdir, run_id, screen, enable_cache, registry, data)
        summary.write(workdir.run(run_id), result)
    return result


def _resolve(settings: Settings, workdir: Workdir, screen: Screen) -> "Resolution":
    from components.data_resolver.resolution import resolve

    source = settings.data.source or ""
    limit = ", which is given up after some minutes if it does not answer" if "://" in source else ""
    with progress.waiting_for(f"{source}{limit}"):
        data = resolve(settings.data, settings.evaluator.data, workdir.fingerprints)
    for sentence in data.passed_over:
        screen.say(escape(sentence))
    return data


def _run_components(
    settings: Settings,
    workdir: Workdir,
    run_id: str,
    screen: Screen,
    enable_cache: bool,
    registry: "ModelRegistry",
    data: "Resolution",
) -> Summary:
    screen.waiting("Loading TensorFlow and TFX")
    with imports.gc_paused():
        from absl import logging as absl_logging
        from tfx.dsl.compiler import compiler
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner
        from tfx.orchestration.portable import runtime_parameter_utils

        from components.champion_resolver import artifact as champion_artifact
        from components.image_example_gen.artifact import REJECTED_FILE
        from components.registry_pusher import formats, serving
        from pipeline.dag import create_pipeline
        from pipeline.local import cache, launching, metadata
        from pipeline.local.lineage import Lineage
        from pipeline.local.rejections import rejections_kept
        from trainer import devices, encoders, pretrained

    # Before hours of ingest, and before anything has computed.
    devices.select(settings.trainer.devices)
    unused = devices.unused_gpu()
    if unused and settings.trainer.devices == "auto":
        screen.say(f"[yellow]Warning:[/] {escape(unused)}")
    if settings.registry.serving_directory:
        serving.require_usable(registry, settings.registry.model_name, settings.registry.serving_directory)
    networks = settings.evaluator.references.pretrained
    if networks:
        screen.waiting("Loading the networks to compare with")
        pretrained.require_loadable(networks, REFERENCES)
    encoders.require_buildable(settings.trainer.encoder, (settings.data.image_size,) * 2)
    screen.waiting("Trying to write the encoder in the formats of a release")
    formats.require_writable(settings)
    name, alias = settings.registry.model_name, settings.registry.alias
    former = metadata.prepare(workdir)
    if former:
        screen.say(f"The working directory was {escape(str(former))} before: its records name its own files now.")
    store = metadata.connection(workdir)
    pipeline = create_pipeline(
        settings,
        data=data,
        run_id=run_id,
        pipeline_root=str(workdir.artifacts.resolve()),
        registry_directory=str(workdir.registry.resolve()),
        checkpoint_root=str(workdir.checkpoints.resolve()),
        champion=champion_artifact.identity(registry.aliased(name, alias), registry.best_release(name, alias)),
        enable_cache=enable_cache,
        metadata=store,
    )
    compiled = compiler.Compiler().compile(pipeline)
    # LocalDagRunner would name the run after the time of day.
    runtime_parameter_utils.substitute_runtime_parameter(compiled, {"pipeline-run-id": run_id})
    absl_logging.set_verbosity(absl_logging.INFO)
    lineage = Lineage(store, run_id)
    progress_of_run = _RunProgress(screen, lineage, settings.evaluator)
    with (
        cache.following_content(workdir.root.resolve(), workdir.cache_keys),
        launching.watched(progress_of_run),
        rejections_kept(str(workdir.run(run_id) / REJECTED_FILE)),
    ):
        LocalDagRunner().run_with_ir(compiled)
    workdir.run(run_id).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(summary.report_path(lineage), workdir.run(run_id) / "report.html")
    return summary.collect(run_id, lineage, progress_of_run.components)


@contextmanager
def _failures_recorded(registry: "ModelRegistry", run_id: str, settings: Settings) -> Iterator[None]:
    """Records the outcome of a run that fails."""
    from components.model_registry import RegistryError
    from components.model_registry.pipeline_runs import FAILED, PipelineRun, PipelineRuns

    try:
        yield
    except (Stopped, RegistryError):
        # A stopped run goes on later; a registry that fails cannot record anything.
        raise
    except Exception as error:
        runs = PipelineRuns(registry, settings.registry.model_name)
        try:
            runs.record(PipelineRun(run_id, FAILED, " ".join(str(error).split()), settings.data.source or ""))
        except Exception:
            logger.exception("The failure of the run could not be recorded.")
        raise


class _RunProgress:
    """Shows each component on the screen, and gathers their states for the summary."""

    def __init__(self, screen: Screen, lineage: "Lineage", evaluator: EvaluatorSettings):
        self.components: list[ComponentSummary] = []
        self._screen, self._lineage, self._evaluator, self._start = screen, lineage, evaluator, 0.0

    def started(self, component: str) -> None:
        self._start = time.monotonic()
        self._screen.started(component)

    def ended(self, component: str, failed: bool) -> None:
        seconds = time.monotonic() - self._start
        execution = self._lineage.execution(component)
        state = summary.FAILED if failed or execution is None else execution.state
        self.components.append(ComponentSummary(id=component, state=state, seconds=round(seconds, 3)))
        self._screen.ended(component, state, seconds)
        if execution is None or state == summary.FAILED:
            return
        # Before the training, also if the results come from the cache.
        if component == "ImageExampleGen" and not self._evaluator.data:
            ingested = examples_artifact.read(execution.outputs[examples_artifact.EXAMPLES])
            self._warn([] if ingested.counts[splits.TEST] else self._evaluator.refusals_without_labels())
        elif component == DATA_GATE:
            checks = data_gate_artifact.read_checks(execution.outputs[data_gate_artifact.DATA_CHECKS])
            self._warn([sentence for check in checks if not check.passed for sentence in check.sentences])

    def _warn(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._screen.say(f"    [yellow]Warning:[/] {escape(sentence)}")


def _with_absolute_paths(settings: Settings, workdir: Workdir) -> Settings:
    registry = settings.registry
    return settings.model_copy(
        update={
            "data": settings.data.model_copy(
                update={"source": _source_path(settings, workdir), "exclude": absolute(settings.data.exclude)}
            ),
            "trainer": settings.trainer.at(absolute),
            "evaluator": settings.evaluator.at(absolute),
            "registry": registry.model_copy(
                update={
                    "artifact_location": absolute(registry.artifact_location),
                    "serving_directory": absolute(registry.serving_directory),
                }
            ),
        }
    )


def _source_path(settings: Settings, workdir: Workdir) -> str:
    source = settings.data.source
    if not source:
        raise SettingsError(
            "The source of images is missing: name it with --data SOURCE (or data.source), or try the embedded sample: "
            "nnclr run --preset sample."
        )
    if source == config.SAMPLE:
        if not workdir.sample.exists():
            from pipeline.data import sample

            reporter = Reporter("Drawing the sample", sum(sample.COUNTS.values()))
            sample.write_sample(workdir.sample, reporter.advance)
        return str(workdir.sample.resolve())
    return absolute(source)


@contextmanager
def _own_arguments() -> Iterator[None]:
    """Hides the arguments of `nnclr` from absl, to which TFX's Beam components pass `sys.argv`."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments

"""Runs the pipeline on this machine with TFX's LocalDagRunner."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.markup import escape

from pipeline import config
from pipeline.config import Settings
from pipeline.local import summary
from pipeline.local.workdir import Workdir
from pipeline.terminal import imports
from pipeline.terminal.screen import Screen
from trainer import progress
from trainer.errors import SettingsError, Stopped
from trainer.progress import Reporter

if TYPE_CHECKING:
    from components.data_resolver.resolution import Resolution
    from components.model_registry import ModelRegistry
    from components.model_registry.pipeline_runs import PipelineRuns

logger = logging.getLogger("nnclr")

# What LocalDagRunner logs around each component; it has no other hook.
_RUNNING, _FINISHED = "Component %s is running.", "Component %s is finished."


def run(settings: Settings, workdir: Workdir, run_id: str, screen: Screen, enable_cache: bool = True) -> dict[str, Any]:
    """Runs all components and returns the run's summary, which is also written to the run's folder.

    Args:
        settings: with a data source.
        workdir: locked.
        run_id: of this run.
        screen: told what happens.
        enable_cache: take earlier results where inputs and parameters are the same.

    Raises:
        UserError: something that was given cannot be used; its message says what and why.
    """
    settings = _with_absolute_paths(settings, workdir)
    screen.waiting("Reading the data's fingerprint")
    with _own_arguments():
        # Only now: these imports take seconds, and MLflow's registry loads most of itself when it is opened.
        with imports.gc_paused():
            from components import json_file
            from components.data_resolver.resolution import nothing_new, recipe, resolve
            from components.model_registry import ModelRegistry
            from components.model_registry.pipeline_runs import NOTHING_NEW, PipelineRuns

            registry = ModelRegistry(str(workdir.registry))
        runs = PipelineRuns(registry, settings.registry.model_name)
        with _failures_recorded(runs, run_id, settings):
            source = settings.data.source or ""
            # Google's client's own limit.
            limit = ", which is given up after two minutes if it does not answer" if "://" in source else ""
            with progress.waiting_for(f"{source}{limit}"):
                data = resolve(
                    source,
                    settings.data.span,
                    settings.data.settled_minutes,
                    settings.evaluator.data,
                    memory=workdir.fingerprints,
                )
            for sentence in data.passed_over:
                screen.say(escape(sentence))
            old = None
            if settings.data.only_new:
                champion = registry.aliased(settings.registry.model_name, settings.registry.alias)
                present = champion.version if champion else None
                old = nothing_new(runs, run_id, data, recipe(settings.deciding()), present)
            if old:
                result = {"run_id": run_id, "outcome": NOTHING_NEW, "nothing_new": old}
            else:
                result = _run_components(settings, workdir, run_id, screen, enable_cache, registry, data)
        json_file.write(str(workdir.run(run_id)), "summary.json", result)
    return result


def _run_components(
    settings: Settings,
    workdir: Workdir,
    run_id: str,
    screen: Screen,
    enable_cache: bool,
    registry: "ModelRegistry",
    data: "Resolution",
) -> dict[str, Any]:
    screen.waiting("Loading TensorFlow and TFX")
    with imports.gc_paused():
        from absl import logging as absl_logging
        from tfx.dsl.compiler import compiler
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner
        from tfx.orchestration.portable import runtime_parameter_utils

        from components.champion_resolver import executor as champion_resolver
        from components.registry_pusher import serving
        from pipeline.dag import create_pipeline
        from pipeline.local import cache, metadata
        from pipeline.local.lineage import Lineage
        from trainer import devices

    # Before hours of ingest, and before anything has computed.
    devices.select(settings.trainer.devices)
    unused = devices.unused_gpu()
    if unused and settings.trainer.devices == "auto":
        screen.say(f"[yellow]Warning:[/] {escape(unused)}")
    if settings.registry.serving_directory:
        serving.require_usable(registry, settings.registry.model_name, settings.registry.serving_directory)
    champion = registry.aliased(settings.registry.model_name, settings.registry.alias)
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
        champion=champion_resolver.identity(champion),
        enable_cache=enable_cache,
        metadata=store,
    )
    compiled = compiler.Compiler().compile(pipeline)
    # LocalDagRunner would call the run by the time of day.
    runtime_parameter_utils.substitute_runtime_parameter(compiled, {"pipeline-run-id": run_id})
    lineage = Lineage(store, run_id)
    absl_logging.set_verbosity(absl_logging.INFO)
    watch = _ComponentWatch(screen, lineage)
    logging.getLogger("absl").addHandler(watch)
    try:
        with cache.following_content(workdir.root.resolve(), workdir.cache_keys):
            LocalDagRunner().run_with_ir(compiled)
    except BaseException:
        watch.failed()
        raise
    finally:
        logging.getLogger("absl").removeHandler(watch)
    workdir.run(run_id).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(summary.report_of(lineage), workdir.run(run_id) / "report.html")
    return summary.collect(run_id, lineage, watch.components)


@contextmanager
def _failures_recorded(runs: "PipelineRuns", run_id: str, settings: Settings) -> Iterator[None]:
    from components.model_registry import RegistryError
    from components.model_registry.pipeline_runs import FAILED, PipelineRun

    try:
        yield
    except (Stopped, RegistryError):
        # The same command goes on; or nobody is there to record it.
        raise
    except Exception as error:
        try:
            runs.record(PipelineRun(run_id, FAILED, " ".join(str(error).split()), settings.data.source or ""))
        except Exception:
            logger.exception("The failure of the run could not be recorded.")
        raise


class _ComponentWatch(logging.Handler):
    """Turns the runner's log into lines on the screen, and remembers them for the summary."""

    def __init__(self, screen: Screen, lineage: Any):
        super().__init__()
        self.components: list[dict[str, Any]] = []
        self._screen, self._lineage = screen, lineage
        self._running, self._since = "", 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == _RUNNING:
            (self._running,) = cast(tuple[str], record.args)
            self._since = time.monotonic()
            self._screen.started(self._running)
        elif record.msg == _FINISHED:
            self._ended(self._lineage.execution(self._running).state)

    def failed(self) -> None:
        """The run stopped in the middle of a component."""
        if self._running:
            self._ended("failed")

    def _ended(self, state: str) -> None:
        seconds = time.monotonic() - self._since
        self.components.append({"id": self._running, "state": state, "seconds": round(seconds, 3)})
        self._screen.ended(self._running, state, seconds)
        self._running = ""


def _with_absolute_paths(settings: Settings, workdir: Workdir) -> Settings:
    places = settings.registry
    return settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"source": _source_path(settings, workdir)}),
            "evaluator": settings.evaluator.model_copy(update={"data": _absolute(settings.evaluator.data)}),
            "registry": places.model_copy(
                update={
                    "artifact_location": _absolute(places.artifact_location),
                    "serving_directory": _absolute(places.serving_directory),
                }
            ),
        }
    )


def _source_path(settings: Settings, workdir: Workdir) -> str:
    source = settings.data.source
    if source is None:
        raise SettingsError(
            "Which images? Name them with --data SOURCE (or data.source), or try the embedded sample: "
            "nnclr run --preset sample."
        )
    if source == config.SAMPLE:
        if not workdir.sample.exists():
            from pipeline.data import sample

            reporter = Reporter("Drawing the sample", sum(sample.COUNTS.values()))
            sample.write_sample(workdir.sample, reporter.advance)
        return str(workdir.sample.resolve())
    return _absolute(source) or ""


def _absolute(place: str | None) -> str | None:
    """A local path as an absolute one, with `~` expanded."""
    if not place or "://" in place:
        return place
    try:
        return str(Path(place).expanduser().resolve())
    except RuntimeError as error:
        raise SettingsError(f"{place} names the home directory of a user that this system does not know.") from error


class _own_arguments:
    """TFX's Beam components hand sys.argv to absl, which would take our options for its own."""

    def __enter__(self) -> None:
        self._argv = sys.argv
        sys.argv = sys.argv[:1]

    def __exit__(self, *_: object) -> None:
        sys.argv = self._argv

"""Runs the pipeline on this machine with TFX's LocalDagRunner."""

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any, cast

from pipeline import config, summary
from pipeline.config import Settings
from pipeline.screen import Screen
from pipeline.workdir import Workdir
from trainer.errors import SettingsError
from trainer.progress import Reporter

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
    source_path = _source_path(settings, workdir)
    screen.waiting("Loading TensorFlow and TFX")
    with _own_arguments():
        # Only now: these imports take many seconds.
        from absl import logging as absl_logging
        from tfx.dsl.compiler import compiler
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner
        from tfx.orchestration.metadata import sqlite_metadata_connection_config
        from tfx.orchestration.portable import runtime_parameter_utils

        from components import json_file
        from components.champion_resolver import executor as champion_resolver
        from components.image_example_gen.fingerprint import fingerprint
        from components.image_example_gen.sources.opening import open_labelled, open_source
        from components.model_registry import ModelRegistry
        from pipeline.dag import create_pipeline
        from pipeline.lineage import Lineage

        screen.waiting("Reading the data's fingerprint")
        data_fingerprint = fingerprint(open_source(source_path), workdir.fingerprints)
        labelled_path, labelled_fingerprint = settings.evaluator.data, None
        if labelled_path:
            labelled_path = _absolute(labelled_path)
            labelled_fingerprint = fingerprint(open_labelled(labelled_path), workdir.fingerprints)
        settings = settings.model_copy(
            update={
                "data": settings.data.model_copy(update={"source": source_path}),
                "evaluator": settings.evaluator.model_copy(update={"data": labelled_path}),
            }
        )
        registry = ModelRegistry(str(workdir.registry))
        champion = registry.aliased(settings.registry.model_name, settings.registry.alias)
        metadata = sqlite_metadata_connection_config(str(workdir.metadata.resolve()))
        pipeline = create_pipeline(
            settings,
            fingerprint=data_fingerprint,
            labelled_fingerprint=labelled_fingerprint,
            run_id=run_id,
            pipeline_root=str(workdir.artifacts.resolve()),
            registry_directory=str(workdir.registry.resolve()),
            checkpoint_root=str(workdir.checkpoints.resolve()),
            champion=champion_resolver.identity(champion),
            enable_cache=enable_cache,
            metadata=metadata,
        )
        compiled = compiler.Compiler().compile(pipeline)
        # LocalDagRunner would call the run by the time of day.
        runtime_parameter_utils.substitute_runtime_parameter(compiled, {"pipeline-run-id": run_id})
        lineage = Lineage(metadata, run_id)
        absl_logging.set_verbosity(absl_logging.INFO)
        watch = _ComponentWatch(screen, lineage)
        logging.getLogger("absl").addHandler(watch)
        try:
            LocalDagRunner().run_with_ir(compiled)
        except BaseException:
            watch.failed()
            raise
        finally:
            logging.getLogger("absl").removeHandler(watch)
        result = summary.collect(run_id, lineage, watch.components)
        json_file.write(str(workdir.run(run_id)), "summary.json", result)
        shutil.copyfile(summary.report_of(lineage), workdir.run(run_id) / "report.html")
    return result


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
    return _absolute(source)


def _absolute(source: str) -> str:
    return source if "://" in source else str(Path(source).resolve())


class _own_arguments:
    """TFX's Beam components hand sys.argv to absl, which would take our options for its own."""

    def __enter__(self) -> None:
        self._argv = sys.argv
        sys.argv = sys.argv[:1]

    def __exit__(self, *_: object) -> None:
        sys.argv = self._argv

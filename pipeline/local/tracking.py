"""Makes each run an MLflow run from its start, which shows the training while it goes on."""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from components.data_resolver.resolution import Resolution, settings_fingerprint
from components.model_registry import RegistryError
from components.model_registry.live_run import LiveRun
from components.model_registry.pipeline_runs import RUNNING, PipelineRun, PipelineRuns
from components.run_settings import RunSettings
from pipeline.config import Settings
from pipeline.local.workdir import Workdir
from trainer import failures, observing, settings_tree
from trainer.errors import Stopped

if TYPE_CHECKING:
    from components.model_registry import ModelRegistry


def place(workdir: Workdir) -> str:
    """Returns an identity of a working directory, see `PipelineRuns.start`."""
    return hashlib.sha256(f"{socket.gethostname()}:{workdir.root.resolve()}".encode()).hexdigest()[:32]


@contextmanager
def tracked(
    registry: "ModelRegistry", settings: Settings, workdir: Workdir, run_id: str, data: Resolution
) -> Iterator[None]:
    """Starts the record of a run, and sends the metrics of its training and its report to MLflow.

    The result of the run is recorded by whoever knows it. A run that is stopped goes on in the same MLflow run.

    Args:
        registry: The registry, whose MLflow server or database takes the metrics, too.
        settings: All settings.
        workdir: The working directory, locked.
        run_id: The run's id.
        data: The images of the run.
    """
    runs, run_settings = PipelineRuns(registry, settings.registry.model_name), settings.narrow(RunSettings)
    mlflow_run = runs.start(
        PipelineRun(
            run_id,
            RUNNING,
            source=data.source,
            data=data.identity,
            settings_fingerprint=settings_fingerprint(run_settings),
        ),
        place(workdir),
    )
    live = LiveRun(
        registry.connection.client, mlflow_run, settings_tree.flattened(run_settings.model_dump(mode="json"))
    )
    report = workdir.run(run_id) / "report.html"
    try:
        with observing.observed_by(live):
            yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or isinstance(failures.as_user_error(error), Stopped):
            with suppress(RegistryError):
                runs.stop(mlflow_run)
        raise
    finally:
        live.close(report if report.exists() else None)

"""Beam's PortableRunner with checks before a job, and with one sentence when the job server or a worker fails."""

import contextlib
import socket
import threading

import apache_beam as beam
import grpc
from apache_beam.metrics.metric import MetricResults
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.runner import PipelineResult, PipelineState

from pipeline.engine import worker_errors
from pipeline.engine.worker_errors import EngineError
from trainer import progress
from trainer.errors import SettingsError, UserError

_EMBEDDED = "embed"
_CONNECT_SECONDS = 5
#: A cluster may first have to start a machine and to load the image of the worker.
LONGEST_START_SECONDS = 600

_READY_ENGINES: set[tuple[str | None, ...]] = set()


class CheckedPortableRunner(portable_runner.PortableRunner):
    """Gives pipelines to a job server, and says what is wrong where Beam itself waits for minutes or for ever.

    Before a pipeline it checks that the job server answers, and before the first one also that a worker starts.
    """

    def run_portable_pipeline(self, pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> PipelineResult:
        """Starts a pipeline.

        Raises:
            SettingsError: If an address is missing or malformed.
            EngineError: If the job server cannot be reached, or if no worker starts.
        """
        portable = options.view_as(PortableOptions)
        engine = (portable.job_endpoint, portable.environment_type, portable.environment_config)
        _require_job_server(portable)
        if engine not in _READY_ENGINES:
            _require_worker(options)
            _READY_ENGINES.add(engine)
        try:
            return _ExplainedResult(super().run_portable_pipeline(pipeline, options), portable.job_endpoint)
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise _unreachable(portable.job_endpoint, _details(error)) from error


class _ExplainedResult(PipelineResult):
    """The result of a pipeline, whose failure is one sentence."""

    def __init__(self, result: PipelineResult, endpoint: str):
        super().__init__(PipelineState.UNKNOWN)
        self._result, self._endpoint = result, endpoint

    @property
    def state(self) -> str:
        """The present state of the pipeline."""
        return self._result.state

    def wait_until_finish(self, duration: int | None = None) -> str:
        """Waits for the end of the pipeline.

        Args:
            duration: The longest time to wait, in milliseconds.

        Raises:
            UserError: If the pipeline fails.
        """
        try:
            return self._result.wait_until_finish(duration)
        except grpc.RpcError as error:
            raise _unreachable(self._endpoint, _details(error)) from error
        except RuntimeError as error:
            raise worker_errors.explained(str(error)) from error

    def cancel(self) -> None:
        """Asks the job server to end the pipeline."""
        self._result.cancel()

    def metrics(self) -> MetricResults:
        """Returns what the workers counted."""
        return self._result.metrics()


def _require_job_server(options: PortableOptions) -> None:
    if not options.job_endpoint:
        raise SettingsError("beam.job_endpoint is missing: name the job server as HOST:PORT, as in localhost:8099.")
    if options.job_endpoint != _EMBEDDED:
        refused = _refused("beam.job_endpoint", options.job_endpoint)
        if refused:
            raise _unreachable(options.job_endpoint, refused)
    elif (options.environment_type or "").upper() == "EXTERNAL":
        # Another job server's workers connect to the pool from their own machines, where `localhost` is another one.
        pool = options.environment_config or options.lookup_environment_option("external_service_address")
        refused = _refused("beam.environment_config", pool)
        if refused:
            raise EngineError(
                f"No worker pool of Beam answers at {pool} ({refused}): start it, or correct beam.environment_config."
            )


def _refused(setting: str, address: str) -> str:
    """Returns why no connection to an address is accepted; an empty text if one is."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise SettingsError(f"{setting} takes HOST:PORT, for instance localhost:8099, not {address!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        return (getattr(error, "strerror", None) or str(error) or "no answer").lower()
    return ""


def _unreachable(endpoint: str, reason: str) -> EngineError:
    return EngineError(
        f"No job server of Beam answers at {endpoint} ({reason}): start it, or correct beam.job_endpoint."
    )


def _details(error: grpc.RpcError | grpc.FutureTimeoutError) -> str:
    """Returns what gRPC says about an error; the text of the error itself has several lines."""
    return error.details() if isinstance(error, grpc.Call) else str(error) or "no answer"


def _require_worker(options: PipelineOptions) -> None:
    """Runs a pipeline that does nothing.

    Raises:
        EngineError: If no worker starts. Beam would wait for ever for a worker that ends before it connects.
    """
    failures: list[UserError] = []
    started: list[PipelineResult] = []
    endpoint = options.view_as(PortableOptions).job_endpoint
    given = options.get_all_options(drop_default=True, retain_unknown_options=True)
    # Without the plugins, which take longer to import than the rest of a worker.
    plain = PipelineOptions.from_dictionary({k: v for k, v in given.items() if k not in ("runner", "beam_plugins")})

    def run() -> None:
        pipeline = beam.Pipeline(runner=portable_runner.PortableRunner(), options=plain)
        _ = pipeline | beam.Impulse() | beam.Map(len)
        try:
            started.append(pipeline.run())
            started[0].wait_until_finish()
        except grpc.RpcError as error:
            failures.append(_unreachable(endpoint, _details(error)))
        except Exception as error:
            failures.append(worker_errors.explained(str(error)))

    # The threads of an embedded job server inherit this property: they must not keep the process from ending.
    thread = threading.Thread(target=run, name="first-worker", daemon=True)
    minutes = f"{LONGEST_START_SECONDS / 60:.0f} minutes"
    with progress.waiting_for(f"a worker of Beam, which is given up after {minutes}"):
        thread.start()
        thread.join(LONGEST_START_SECONDS)
    if thread.is_alive():
        for result in started:
            # Otherwise the job would occupy the engine. Its state does not matter any more.
            with contextlib.suppress(Exception):
                result.cancel()
        raise EngineError(
            f"No worker of Beam started within {LONGEST_START_SECONDS} s: the logs of the job server and of the "
            "workers say why. beam.environment_type and beam.environment_config say how the workers are started."
        )
    if failures:
        raise failures[0]

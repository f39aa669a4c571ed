"""The entry point of a pod: runs one component's executor under the launcher of Kubeflow Pipelines.

TFX's own entry point fails on every component with inputs: the launcher passes artifacts without their types, with URIs
that TensorFlow cannot read, and with an output that TFX does not know. This entry point translates the launcher's
message for TFX, calls TFX's entry point, and translates its result back. The line of the log that starts with `Error:`
names the error. Lines of KFP's launcher follow it.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from components import artifact_files
from pipeline.config import beam_options
from pipeline.kubeflow import invocation, page_outputs
from pipeline.terminal import imports, process
from pipeline.terminal.screen import LastingConsole, Screen
from trainer import failures
from trainer.errors import FAILED, WRONG_USAGE, Stopped

# Kubernetes shows the content of this file as the reason for a container's end; it keeps 4096 bytes.
_TERMINATION_LOG, _LONGEST_TERMINATION_MESSAGE = Path("/dev/termination-log"), 1000


def main(argv: list[str] | None = None) -> None:
    """Runs a component. The exit codes are those of `nnclr run`."""
    process.complete()
    arguments, beam_arguments = _parser().parse_known_args(argv)
    # TFX's Beam components pass sys.argv to absl, which does not know these arguments.
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGTERM, _stop)
    console = LastingConsole(file=sys.stderr, highlight=False, soft_wrap=True)
    _keep_log_readable()
    try:
        with Screen(console) as screen:
            screen.say(f"{arguments.component} started")
            _run(arguments, beam_arguments)
            screen.say(f"{arguments.component} done")
    except ValidationError as error:
        _fail(arguments.component, str(error), WRONG_USAGE)
    except Exception as error:
        user_error = failures.as_user_error(error)
        if isinstance(user_error, failures.FileProblem | None):
            traceback.print_exc()
        if user_error:
            _fail(arguments.component, str(user_error), user_error.exit_code)
        _fail(arguments.component, f"{type(error).__name__}: {error}", FAILED)


def _keep_log_readable() -> None:
    """Logs all messages of nnclr, but only warnings of TFX and Beam, whose messages hold whole protocol buffers."""
    # Otherwise lines of stdout and stderr would appear in another order than they were written.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("nnclr"))
    # Instead of handlers that a library may have added when it was imported.
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.kubeflow.entrypoint", description=__doc__)
    parser.add_argument("--component", required=True, help="id of the component, which the log shows")
    parser.add_argument("--executor_class_path", required=True, help="executor to run, MODULE.CLASS")
    parser.add_argument("--json_serialized_invocation_args", required=True, help="the launcher's ExecutorInput")
    parser.add_argument("--json_serialized_inputs_spec_args", required=True, help="the component's ComponentInputsSpec")
    parser.add_argument(
        "--run_parameter", action="append", default=[], metavar="NAME=TARGET", help="target of a run parameter"
    )
    return parser


def _run(arguments: argparse.Namespace, beam_arguments: list[str]) -> None:
    with imports.gc_paused():
        from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    given: dict[str, Any] = json.loads(arguments.json_serialized_invocation_args)
    remote = not beam_options.workers_are_here(beam_arguments)
    prepared = invocation.to_tfx(given, json.loads(arguments.json_serialized_inputs_spec_args), remote)
    values = prepared["inputs"].setdefault("parameterValues", {})
    invocation.apply_run_parameters(values, arguments.run_parameter, os.environ)  # type: ignore[arg-type]
    for listed in prepared["outputs"]["artifacts"].values():
        for artifact in listed["artifacts"]:
            # The launcher uploads every output, even one that nobody writes. The artifact of a value is a file.
            path = invocation.local_path(artifact["uri"])
            os.makedirs(os.path.dirname(path) if invocation.is_value(artifact) else path, exist_ok=True)
    arguments.json_serialized_invocation_args = json.dumps(prepared)
    kubeflow_v2_run_executor.main((arguments, beam_arguments))
    path = given["outputs"]["outputFile"]
    output = invocation.to_kfp(json.loads(artifact_files.read(path)), given)
    directories = invocation.output_uris(prepared)
    output["artifacts"] |= page_outputs.write(arguments.component, invocation.output_uris(given), directories)
    artifact_files.write(path, json.dumps(output).encode())


def _stop(*_: object) -> NoReturn:
    raise Stopped("Stopped by SIGTERM.")


def _fail(component: str, message: str, code: int) -> NoReturn:
    """Writes the reason as the last line of Python's output, and where `kubectl describe pod` shows it."""
    sentence = f"Error: {component} failed: {' '.join(message.split())}"
    try:
        sys.stderr.flush()
        print(sentence, file=sys.stderr, flush=True)
    except BrokenPipeError:
        # The launcher, which reads the output, ends before this process if the pod is deleted.
        process.discard_output()
    # Outside of a pod, the file does not exist or may not be written.
    with contextlib.suppress(OSError):
        if _TERMINATION_LOG.exists():
            _TERMINATION_LOG.write_text(sentence[:_LONGEST_TERMINATION_MESSAGE], encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()

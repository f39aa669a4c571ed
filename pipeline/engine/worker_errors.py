"""Finds, in the long text with which a job fails, the error that a worker raised."""

import re
from collections.abc import Iterator

from trainer.errors import DataError, UserError

_TRACEBACK = "Traceback (most recent call last):"
# What Beam's workers and job servers append to the message of an error.
_APPENDED = re.compile(r"\s*(?:,?\s*\[?while running '[^']*'\]?(?: with exceptions)?|with traceback.*)$", re.DOTALL)
_RAISED = re.compile(r"(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?", re.DOTALL)
# Python's, Beam's and TensorFlow's errors for files that cannot be read or written.
_FILE_ERRORS = (
    *("OSError", "FileNotFoundError", "PermissionError", "NotADirectoryError", "BeamIOError"),
    *("NotFoundError", "PermissionDeniedError"),
)


class EngineError(UserError):
    """The engine that runs Beam's pipelines cannot be reached, or its workers fail."""


def explained(text: str) -> UserError:
    """Returns the error for the text with which a job failed.

    Args:
        text: The text of the job server, which contains the stack traces of workers if a worker failed.
    """
    raised = list(_raised(text))
    if not raised:
        # The last cause is the first that happened. Without one, the stack of Java follows the message.
        causes = re.findall(r"^Caused by: (.*)", text, re.MULTILINE)
        message = causes[-1] if causes else text.partition("\n\tat ")[0]
        return EngineError(f"The Beam job failed: {' '.join(message.split())}")
    # Errors that wrap another one follow it.
    kind, message = raised[0]
    known = {f"{error.__module__}.{error.__qualname__}": error for error in _subclasses(UserError)}
    if kind in known and not issubclass(known[kind], DataError):
        return known[kind](message)
    if kind in known or kind.rpartition(".")[2] in _FILE_ERRORS:
        return DataError(
            f"A Beam worker failed: {message.rstrip('.')}. All workers must see the images and the folder of the "
            "results under the same path as this machine, for instance on a shared disk or in a bucket."
        )
    if kind == "ModuleNotFoundError":
        return EngineError(
            f"A Beam worker failed: {message}. Install the same nnclr on all workers, and let Beam's boot or "
            "nnclr-beam-worker start them, see docs/flink.md."
        )
    return EngineError(f"A Beam worker failed: {kind}: {message}")


def _raised(text: str) -> Iterator[tuple[str, str]]:
    """Yields the kind and the message of each error that a stack trace in the text ends with, in their order."""
    for trace in text.split(_TRACEBACK)[1:]:
        lines = trace.strip("\n").split("\n")
        # The lines of the stack are indented.
        end = next((i for i, line in enumerate(lines) if line and not line[0].isspace()), None)
        if end is None:
            continue
        message = []
        for line in lines[end:]:
            # A stack trace of Java, or another error, follows.
            if not line.strip() or line.startswith("\tat "):
                break
            message.append(line)
        error = _RAISED.fullmatch("\n".join(message).rstrip())
        # This error contains the stack trace that follows.
        if error and not (error["message"] or "").endswith("failed:"):
            yield error["kind"], " ".join(_APPENDED.sub("", error["message"] or "").split())


def _subclasses(kind: type[UserError]) -> Iterator[type[UserError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _subclasses(subclass)

"""One sentence from the text with which a job fails, as Beam's own job server and Flink's write it."""

import pytest

from pipeline.engine.worker_errors import EngineError, explained
from trainer.errors import DataError, TrainingError

STACK = '  File "/opt/nnclr/worker.py", line 1, in process\n    raise\n    ^^^^^\n'


def beams_own(error: str) -> str:
    """Beam's Python job server: its own stack trace around those of the worker, of which the first is the cause."""
    return (
        f"Pipeline job-1 failed in state FAILED: Traceback (most recent call last):\n{STACK}"
        f"RuntimeError: bundle inst001 stage-5 failed:Traceback (most recent call last):\n{STACK}{error}\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        f"Traceback (most recent call last):\n{STACK}RuntimeError: other [while running 'Read-21']\n\n"
    )


def flinks(error: str) -> str:
    """Flink's job server: stack traces of Java around the worker's."""
    return (
        "java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK harness for "
        f"instruction 4: Traceback (most recent call last):\n{STACK}{error} [while running 'Read-ptransform-21']\n\n"
        "\tat java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)\n"
        f"Caused by: java.lang.RuntimeException: Traceback (most recent call last):\n{STACK}{error}\n\tat org.A(A:1)"
    )


@pytest.mark.parametrize("text", [beams_own, flinks])
@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        ("trainer.errors.DataError: /p/1.png cannot be read: gone.", DataError, "/p/1.png cannot be read: gone. All"),
        ("FileNotFoundError: [Errno 2] No such file: '/p'", DataError, "No such file: '/p'. All workers must"),
        ("OSError: SavedModel file does not exist at: /m", DataError, "does not exist at: /m. All workers must see"),
        ("PermissionError: [Errno 13] denied: '/p'", DataError, "denied: '/p'. All workers must see"),
        (
            "tensorflow.python.framework.errors_impl.NotFoundError: /e; No such file or directory",
            DataError,
            "/e; No such file or directory. All workers must see",
        ),
        ("ModuleNotFoundError: No module named 'tfx_bsl.arrow.sql_util'", EngineError, "nnclr-beam-worker start them"),
        ("trainer.errors.TrainingError: It diverged.", TrainingError, "It diverged."),
        ("ValueError: two\nlines", EngineError, "A Beam worker failed: ValueError: two lines"),
        ("KeyError", EngineError, "A Beam worker failed: KeyError"),
    ],
)
def test_the_workers_first_error_is_told_with_its_exit_code(text, error, kind, sentence):
    found = explained(text(error))
    assert type(found) is kind
    assert sentence in str(found)
    assert "while running" not in str(found)
    assert "Traceback" not in str(found)


def test_a_failure_without_a_workers_error_is_told_by_its_last_cause():
    buffers = "Insufficient number of network buffers: required 17, but only 3 available."
    java = f"JobException: suppressed\n\tat org.A(A:1)\nCaused by: java.io.IOException: {buffers}\n\tat org.B"
    for text, told in ((java, f"java.io.IOException: {buffers}"), (f"{buffers}\n\tat org.B", buffers)):
        found = explained(text)
        assert type(found) is EngineError
        assert str(found) == f"The Beam job failed: {told}"

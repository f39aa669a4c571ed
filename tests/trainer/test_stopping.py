"""A request to stop is never lost and never becomes another error, whenever it comes."""

import errno
import os
import signal
from pathlib import Path

import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from tests.trainer.test_loop import settings
from trainer import failures, loop, outcome
from trainer.errors import DataError, DiskFull, Stopped, UserError


def train(tfrecords, tmp_path: Path):
    job = loop.Job(
        tfrecords["unlabelled"],
        tfrecords["train"],
        str(tmp_path / "logs"),
        checkpoint_root=str(tmp_path / "checkpoints"),
    )
    return loop.train(settings(duration="3 steps"), job, mirrored([tf.config.list_logical_devices("CPU")[0].name]))


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, Stopped), pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.long)],
)
def test_a_request_in_the_last_step_stops_and_the_next_start_only_has_to_export(
    number, expected, tfrecords, tmp_path, monkeypatch
):
    measure = loop._Training._measure

    def asked_meanwhile(self):
        measure(self)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_measure", asked_meanwhile)
        with pytest.raises(expected):
            train(tfrecords, tmp_path)
    _, result = train(tfrecords, tmp_path)
    assert result.steps == 3
    # No step was made twice: the rows are those of the first try.
    assert [row["step"] for row in result.history] == [3]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, Stopped), pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.long)],
)
def test_a_request_during_the_export_is_taken_after_it_and_keeps_the_checkpoints(
    number, expected, tfrecords, tmp_path, monkeypatch
):
    model, result = train(tfrecords, tmp_path)
    places = str(tmp_path / "model"), str(tmp_path / "logs")
    save = tf.saved_model.save

    def asked_meanwhile(*arguments, **options):
        os.kill(os.getpid(), number)
        return save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", asked_meanwhile)
        with pytest.raises(expected):
            outcome.write(model, settings(duration="3 steps"), result, *places)
    assert list((tmp_path / "checkpoints").rglob("*.npz"))
    # The same command comes here once more, and finds what this one left.
    outcome.write(model, settings(duration="3 steps"), result, *places)
    assert (tmp_path / "model" / "saved_model.pb").exists()
    assert not list((tmp_path / "checkpoints").rglob("*.npz"))


def test_what_a_library_makes_of_a_request_to_stop_is_still_one():
    def wrapped() -> ValueError:
        try:
            try:
                raise Stopped("asked")
            except Stopped:
                raise ValueError("Error when tracing gradients")  # noqa: B904
        except ValueError as error:
            return error

    assert isinstance(failures.as_user_error(wrapped()), Stopped)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/x"),
        tf.errors.ResourceExhaustedError(None, None, "/data/x; No space left on device"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"),
    ],
)
def test_a_full_disk_is_one_sentence_with_an_exit_code_of_its_own(error):
    told = failures.as_user_error(error)
    assert isinstance(told, DiskFull)
    assert told.exit_code == 74
    assert "no space left" in str(told)


def test_errors_behind_errors_count_and_faults_of_ones_own_do_not():
    inner = DataError("train_y.bin has the label 11")
    outer = RuntimeError("while running Ingest")
    outer.__cause__ = inner
    assert failures.as_user_error(outer) is inner
    assert failures.as_user_error(KeyError("x")) is None
    denied = failures.as_user_error(PermissionError(errno.EACCES, "Permission denied", "/data/x"))
    assert isinstance(denied, UserError)
    assert str(denied) == "/data/x cannot be used: Permission denied."

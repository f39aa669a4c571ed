"""A training that was killed, whenever, ends with the same weights as one that never was. Real processes, real signals.

The signals that the trainer answers go to `python -m trainer` itself, SIGKILL to forked ones (see `processes`).
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.processes import finish, start

ARGUMENTS = [
    *("--set", "trainer.encoder={width: 8, batch_norm: true, pooling: average}"),
    *("--set", "trainer.projection={units: [16, 12], batch_norm: true}"),
    *("--set", "trainer.prediction={units: [16, 12], batch_norm: true}"),
    *("--set", "trainer.neighbour=paper", "--set", "trainer.support_set_size=50", "--set", "trainer.batch_size=16"),
    *("--set", "trainer.momentum_encoder.momentum=0.9"),
    *("--set", "trainer.optimizer={name: lars, learning_rate: 1.0, schedule: cosine, warmup: 2 steps}"),
    *("--set", "trainer.online_probe.batch_size=8", "--set", "trainer.shuffle_buffer=32"),
    *("--set", "trainer.duration=40 steps", "--set", "trainer.watch.every=10 steps"),
    *("--set", "trainer.checkpoint.every=3 steps"),
]


def weights(output: Path) -> list[np.ndarray]:
    path = f"{output}/model/variables/variables"
    names = [name for name, _ in tf.train.list_variables(path) if name.startswith("_encoder")]
    return [tf.train.load_variable(path, name) for name in sorted(names)]


def curves(output: Path) -> list[dict[str, float]]:
    with open(output / "logs" / "history.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def checkpoints(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("checkpoints/*/step-*.npz"))


@pytest.fixture(scope="module")
def uninterrupted(records, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    assert finish(start([records, str(output), *ARGUMENTS])) == 0
    return output


def test_a_finished_training_leaves_its_encoder_and_no_checkpoints(uninterrupted):
    assert len(weights(uninterrupted)) > 4
    assert checkpoints(uninterrupted) == []
    figures = json.loads((uninterrupted / "logs" / "training.json").read_text())
    assert figures["steps"] == 40
    assert [row["step"] for row in curves(uninterrupted)] == [10, 20, 30, 40]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_it_ends_as_if_it_never_was(records, uninterrupted, tmp_path, seed):
    moments = random.Random(seed)
    reached = []
    for _ in range(4):
        # At a random moment after a random checkpoint, which may be in the middle of writing the next.
        process = start([records, str(tmp_path), *ARGUMENTS])
        before = checkpoints(tmp_path)
        deadline = time.monotonic() + 120
        while checkpoints(tmp_path) == before and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        if finish(process) == 0:
            break
        reached.append(checkpoints(tmp_path)[-1])
    else:
        assert finish(start([records, str(tmp_path), *ARGUMENTS])) == 0
    assert reached
    assert reached == sorted(reached)
    for found, expected in zip(weights(tmp_path), weights(uninterrupted), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert curves(tmp_path) == curves(uninterrupted)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_a_signal_saves_and_ends_with_its_own_code(records, uninterrupted, tmp_path, number, code):
    # The command itself, in a process of its own.
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", records, str(tmp_path), *ARGUMENTS, "--set", "trainer.checkpoint.every=1000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("logs/history.csv")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert "Run the same command again to resume." in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    (saved,) = checkpoints(tmp_path)
    assert "step-00000010.npz" <= saved < "step-00000040.npz"
    assert finish(start([records, str(tmp_path), *ARGUMENTS])) == 0
    for found, expected in zip(weights(tmp_path), weights(uninterrupted), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_finished_training_is_not_overwritten(records, uninterrupted):
    before = weights(uninterrupted)
    assert finish(start([records, str(uninterrupted), *ARGUMENTS])) == 2
    for found, expected in zip(weights(uninterrupted), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_damaged_checkpoint_is_passed_over(records, uninterrupted, tmp_path):
    process = start([records, str(tmp_path), *ARGUMENTS])
    while len(checkpoints(tmp_path)) < 2 and process.is_alive():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    newest = next(path for path in tmp_path.glob("checkpoints/*/*") if path.name == checkpoints(tmp_path)[-1])
    newest.write_bytes(newest.read_bytes()[:1000])
    assert finish(start([records, str(tmp_path), *ARGUMENTS])) == 0
    for found, expected in zip(weights(tmp_path), weights(uninterrupted), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_other_settings_start_anew(records, tmp_path):
    process = start([records, str(tmp_path), *ARGUMENTS])
    while not checkpoints(tmp_path) and process.is_alive():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    left = checkpoints(tmp_path)
    shorter = [*ARGUMENTS, "--set", "trainer.seed=1", "--set", "trainer.duration=4 steps"]
    assert finish(start([records, str(tmp_path), *shorter])) == 0
    assert [row["step"] for row in curves(tmp_path)] == [4]
    # Those of the unfinished one are still there.
    assert checkpoints(tmp_path) == left

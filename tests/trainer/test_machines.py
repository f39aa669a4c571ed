"""Two processes that train together over the network equal one, and stop and resume together."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.equality_cases import BATCH, CASES, require_same_metrics, require_same_state
from tests.trainer.processes import cluster, finish, start, start_function
from tests.trainer.test_resume import ARGUMENTS, checkpoints, curves, weights
from tests.trainer.variables import train_with_variables
from trainer import devices
from trainer.errors import SettingsError

MACHINES = 2
# Everything that processes exchange: gradients, statistics of batches, norms, the support set, small views.
EXCHANGING = [
    *("example, sgd", "paper, batch norm, lars", "small views"),
    "clipped, in two parts, one of three neighbours, byol",
]


@pytest.fixture
def ports() -> list[int]:
    held = [socket.socket() for _ in range(MACHINES)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


def train_all(records: str, output: str, environment: dict[str, str], names: list[str]) -> None:
    """Trains the named cases, one after the other, and leaves what came out."""
    os.environ |= environment
    import tensorflow as tf

    from trainer import data, devices, loop
    from trainer.config import TrainerSettings

    strategy = devices.default_strategy()
    # The graphs are small, but optimising them is not.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    job = loop.Job(
        data.matching_files([f"{records}/Split-unlabelled/*"]), data.matching_files([f"{records}/Split-train/*"])
    )
    for name in names:
        settings = TrainerSettings.model_validate(
            {"batch_size": BATCH, "duration": "2 steps", "watch": {"every": "1 steps"}, "support_set_size": 25}
            | {"online_probe": {"batch_size": 8}, "precision": "float32", "shuffle_buffer": 32}
            | CASES[name]
        )
        _, result, variables = train_with_variables(settings, job, strategy)
        np.savez(f"{output}/{name}.npz", **variables)
        Path(f"{output}/{name}.json").write_text(json.dumps([result.is_chief, result.history]))


def left(directory: Path, name: str) -> tuple[bool, list[dict[str, float]], dict[str, np.ndarray]]:
    is_chief, history = json.loads((directory / f"{name}.json").read_text())
    with np.load(directory / f"{name}.npz") as state:
        return is_chief, history, dict(state)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(EXCHANGING, marks=pytest.mark.long),
        pytest.param(sorted(CASES.keys() - EXCHANGING), marks=pytest.mark.soak),
    ],
    ids=["some", "rest"],
)
def test_two_processes_equal_one(names, records, tmp_path, ports):
    """Of several devices, `test_devices` compares all cases."""
    places = [tmp_path / name for name in ("alone", "first", "second")]
    for place in places:
        place.mkdir()
    alone = start_function(train_all, records, str(places[0]), {}, names)
    assert finish(alone) == 0
    together = [
        start_function(train_all, records, str(place), cluster(ports, i), names) for i, place in enumerate(places[1:])
    ]
    assert [finish(process) for process in together] == [0, 0]
    for name in names:
        _, expected_history, expected = left(places[0], name)
        first, second = (left(place, name)[2] for place in places[1:])
        for part, value in first.items():
            np.testing.assert_array_equal(second[part], value, err_msg=f"The machines differ in {part}.")
        for i, place in enumerate(places[1:]):
            is_chief, history, state = left(place, name)
            assert is_chief == (i == 0)
            for row, expected_row in zip(history, expected_history, strict=True):
                require_same_metrics(row, expected_row)
            require_same_state(name, state, expected)


@pytest.mark.long
def test_a_signal_to_one_stops_both_at_the_same_step_and_they_resume(records, tmp_path, ports):
    def both(output):
        return [start([records, str(output), *ARGUMENTS], cluster(ports, i)) for i in range(MACHINES)]

    untouched, stopped = tmp_path / "untouched", tmp_path / "stopped"
    assert [finish(process) for process in both(untouched)] == [0, 0]
    processes = both(stopped)
    deadline = time.monotonic() + 120
    while not checkpoints(stopped) and time.monotonic() < deadline:
        time.sleep(0.01)
    # The second one does not write; it is the first that saves.
    os.kill(processes[1].pid, signal.SIGTERM)
    assert [finish(process) for process in processes] == [75, 75]
    assert checkpoints(stopped)
    assert [finish(process) for process in both(stopped)] == [0, 0]
    for found, expected in zip(weights(stopped), weights(untouched), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert curves(stopped) == curves(untouched)


def write_least(output: Path, value: float, environment: dict[str, str]) -> None:
    os.environ |= environment
    output.write_text(str(devices.least(devices.default_strategy(), value)))


@pytest.mark.long
def test_machines_agree_on_the_least_of_their_values(tmp_path, ports):
    """So that all of them plan the same number of steps for a time limit."""
    outputs = [tmp_path / str(i) for i in range(MACHINES)]
    processes = [
        start_function(write_least, output, value, cluster(ports, i))
        for i, (output, value) in enumerate(zip(outputs, (812.0, 790.0), strict=True))
    ]
    assert [finish(process) for process in processes] == [0, 0]
    assert [output.read_text() for output in outputs] == ["790.0", "790.0"]


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}'])
def test_a_broken_tf_config_is_named(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(SettingsError, match="The environment variable TF_CONFIG is not a cluster description"):
        devices.default_strategy()

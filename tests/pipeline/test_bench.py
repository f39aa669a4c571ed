"""`nnclr bench` measures what it says it does."""

import json
import math
from dataclasses import asdict

import pytest

from pipeline import config
from pipeline.bench.measuring import Figure, Table, alternately
from tests import interpreters
from trainer.errors import SettingsError

TINY = ["trainer.encoder={width: 8}", "trainer.batch_size=16", "data.image_size=48", "trainer.support_set_size=50"]


def test_contenders_take_turns_and_the_warm_up_does_not_count():
    turns: list[str] = []
    seconds = alternately({name: lambda name=name: turns.append(name) for name in ("a", "b")}, rounds=2, warm_up=1)
    assert turns == ["a", "b"] * 3
    assert {name: len(samples) for name, samples in seconds.items()} == {"a": 2, "b": 2}


def test_no_round_begins_after_the_limit_but_one_is_measured():
    calls: list[float] = []
    seconds = alternately({"a": lambda: calls.append(0)}, rounds=5, warm_up=2, limit=0)
    assert (len(calls), len(seconds["a"])) == (3, 1)


def test_rates_are_compared_by_their_medians():
    table = Table("speed")
    table.rates(10, {"old": [1.0, 9.0, 2.0], "new": [0.5, 1.0, 4.0]}, "images/s")
    old, new = table.figures
    assert (old.median, old.lowest, old.highest, old.ratio) == (5.0, pytest.approx(10 / 9), 10.0, 1.0)
    assert (new.median, new.ratio) == (10.0, 2.0)
    assert json.loads(json.dumps(asdict(table)))["figures"][1]["ratio"] == 2.0


def test_one_sample_is_its_own_spread():
    assert Figure.of("x", [3.0], "s") == Figure("x", 3.0, 3.0, 3.0, "s")


def test_arithmetic_is_that_of_the_keras_example():
    import tensorflow as tf

    from pipeline.bench.training import Step

    # Other tests give this process more CPU devices, which the default strategy would use.
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    settings = config.load("keras-example").trainer.model_copy(update={"batch_size": 4, "support_set_size": 8})
    convolutions = [47 * 47 * 27 * 128, 23 * 23 * 1152 * 128, 11 * 11 * 1152 * 128, 5 * 5 * 1152 * 128]
    products = sum(convolutions) + 5 * 5 * 128 * 128 + 2 * 128 * 128
    # Two views of four images; two operations a product; three passes, but no gradient of the images.
    expected = 2 * 4 * 2 * (3 * products - convolutions[0])
    assert Step(settings, (96, 96), strategy).flops() == expected


def test_command_measures_precisions_limit_and_reading(tmp_path):
    overrides = [argument for override in TINY for argument in ("--set", override)]
    # Products of matrices of the usual size take a minute in bfloat16 where the processor does not know it.
    code = """
from pipeline import cli
from pipeline.bench import training
training._MATRIX = 512
training.MatrixProduct.flops = training._PRODUCTS * 2.0 * training._MATRIX**3
cli.main()
"""
    done = interpreters.commands().run("-c", code, "bench", *overrides, "--rounds", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert "cores" in result["environment"]["processor"]
    training, limit, reading = result["tables"]
    rates = {figure["what"]: figure for figure in training["figures"]}
    assert set(rates) == {"float32", "bfloat16"}
    assert rates["float32"]["ratio"] == 1
    shares = {figure["what"]: figure["ratio"] for figure in limit["figures"]}
    assert all(0 < shares[f"whole step, {precision}"] < 1 for precision in rates)
    fastest = max(figure["median"] for figure in rates.values())
    (read,) = reading["figures"]
    assert math.isclose(read["ratio"], read["median"] / fastest)
    assert (tmp_path / "bench.log").exists()


def test_batches_that_the_devices_cannot_share_are_refused():
    import tensorflow as tf

    from pipeline.bench.training import Step

    class TwoDevices(tf.distribute.OneDeviceStrategy):
        num_replicas_in_sync = 2

    with pytest.raises(SettingsError, match=r"trainer\.online_probe\.batch_size is 25, which 2 devices cannot share"):
        Step(config.load("keras-example").trainer, (96, 96), TwoDevices("CPU:0"))

"""The names that `trainer` offers, none of which costs an import of TensorFlow before it is used."""

import subprocess
import sys

import pytest

import trainer


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_every_name_of_all_is_there():
    from trainer import Job, TrainerSettings, config, loop, train

    assert {name: getattr(trainer, name) for name in trainer.__all__} == {
        "Job": Job,
        "TrainerSettings": TrainerSettings,
        "train": train,
    }
    assert (Job, TrainerSettings, train) == (loop.Job, config.TrainerSettings, loop.train)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = trainer.nothing


def test_settings_need_no_tensorflow():
    check = "import sys; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    process = run(f"import trainer, trainer.config; from trainer import TrainerSettings; {check}")
    assert process.returncode == 0, process.stderr

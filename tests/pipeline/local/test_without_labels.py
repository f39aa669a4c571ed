"""Whole runs of the pipeline on pictures without labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.commands.sessions import Finished, session

RUN = [
    *("run", "--data", "pictures", "--json", "--set", "data.image_size=32", "--set", "registry.model_name=encoder"),
    *("--set", "trainer.encoder={name: convnet, width: 16, pooling: average}", "--set", "trainer.precision=float32"),
    *("--set", "trainer.batch_size=50", "--set", "trainer.support_set_size=200", "--set", "trainer.epochs=20"),
    *("--set", "trainer.augmentation={crop_scale: [0.5, 1.0], brightness: 0.5}", "--set", "registry.formats=[]"),
]
COMPARE = [*RUN, "--set", "evaluator.without_labels=compare"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with 500 pictures of random colours and shapes, without labels."""
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(500):
        small = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
        small.resize((48, 40), Image.Resampling.BICUBIC).save(tmp_path / "pictures" / f"{i:03d}.png")
    return tmp_path


@pytest.mark.long
def test_an_encoder_is_released_without_labels_if_that_is_allowed(folder):
    refused, released, again, floor, worse, listed, verified = session(
        folder,
        RUN,
        COMPARE,
        COMPARE,
        [*COMPARE, "--set", "evaluator.floor=0.5"],
        [*COMPARE, "--set", "trainer.duration=1 steps"],
        ["models", "list", "--json"],
        ["models", "verify", "--json"],
    )
    assert (refused.code, missed(refused)) == (4, ["labels"])
    found = refused.json["evaluation"]["label_free"]
    assert found["candidate"]["neighbour_consistency"] > 0.5 > found["untrained"]["neighbour_consistency"]
    assert refused.json["registry"]["pushed"] is False

    assert (released.code, released.states["Trainer"], missed(released)) == (0, "cached", [])
    assert released.json["registry"]["uri"] == "models:/encoder/1"
    assert released.json["registry"]["alias"] == "champion"
    assert released.json["evaluation"]["label_free"] == found
    report = folder / "nnclr-runs" / "runs" / released.json["run_id"] / "report.html"
    assert "Measured without labels" in report.read_text()

    assert (again.code, again.json["outcome"]) == (0, "unchanged")
    assert again.json["evaluation"]["label_free"]["over_champion"]["differing"] == 0
    assert (floor.code, missed(floor)) == (4, ["needs_labels"])
    assert (worse.code, missed(worse)) == (4, ["beat_untrained", "champion"])

    (version,) = listed.json
    assert (version["probe_accuracy"], version["aliases"]) == (None, ["champion"])
    assert version["neighbour_consistency"] == found["candidate"]["neighbour_consistency"]
    assert verified.code == 0
    assert verified.json[0]["differences"] == []


def missed(run: Finished) -> list[str]:
    return [check["name"] for check in run.json["evaluation"]["checks"] if not check["passed"]]

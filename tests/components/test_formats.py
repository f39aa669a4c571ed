"""Files of further formats compute what the SavedModel does, or the encoder is refused, if possible untrained."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from components.model_registry.contents import SAVED_MODEL
from components.registry_pusher import formats, verification
from components.run_settings import RunSettings
from tests.components import releases
from trainer import portable
from trainer.errors import SettingsError

ENCODER = """
import keras

def build(settings, size, dtype):
    images = keras.Input((*size, 3))
    flat = keras.layers.Flatten(dtype=dtype)(images)
    return keras.Model(images, keras.layers.Lambda(lambda values: values[:, :5] * 2, dtype=dtype)(flat))
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings with an encoder of an installed package, whose layer Keras loads from no file."""
    (tmp_path / "my_package.py").write_text(ENCODER)
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[nnclr.encoders]\nmine = my_package:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda *chosen: RunSettings.model_validate(
        {"trainer": {"encoder": {"name": "mine"}}, "data": {"image_size": 32}, "registry": {"formats": chosen}}
    )
    sys.modules.pop("my_package", None)


@pytest.mark.long
def test_an_encoder_of_another_package_is_tried_in_every_format(settings):
    formats.require_writable(settings())
    formats.require_writable(settings("onnx"))
    with pytest.raises(SettingsError, match=r"^registry\.formats: this encoder cannot be written as keras \(.*Lambda"):
        formats.require_writable(settings("onnx", "keras"))


def test_every_file_is_compared_with_the_saved_model(tmp_path, monkeypatch):
    model = releases.export_model(tmp_path / SAVED_MODEL, seed=1)
    verification.write_examples(tmp_path, model)
    deviations = formats.write(model, ["onnx", "keras"], tmp_path)
    assert {name: deviation < 1e-5 for name, deviation in deviations.items()} == {"onnx": True, "keras": True}
    assert verification.differences(tmp_path) == []
    examples = json.loads((tmp_path / "verification.json").read_text())
    examples[2]["embedding"][3] += 0.5
    (tmp_path / "verification.json").write_text(json.dumps(examples))
    clauses = verification.differences(tmp_path)
    files = {clause.partition(" gives embeddings that differ by 0.")[0] for clause in clauses}
    assert files == {"artifacts/saved_model", "encoder.onnx", "encoder.keras"}

    onnx = portable.FORMATS["onnx"]
    monkeypatch.setitem(portable.FORMATS, "onnx", onnx._replace(embed=lambda *given: onnx.embed(*given) + np.nan))
    with pytest.raises(
        SettingsError, match=r"as onnx gives embeddings that differ .* remove onnx from registry\.formats"
    ):
        formats.write(model, ["onnx"], tmp_path)


def test_the_same_encoder_in_other_formats_is_another_release(tmp_path):
    candidate = releases.candidate(releases.export_model(tmp_path / "model", seed=1), "run")

    def identity(*names: str) -> str:
        registry = candidate.settings.registry.model_copy(update={"formats": names})
        return replace(candidate, settings=candidate.settings.model_copy(update={"registry": registry})).identity

    assert identity("onnx", "keras") == identity("keras", "onnx") != identity("onnx") != identity()

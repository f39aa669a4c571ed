"""An encoder that cannot be written in a format is refused before it is trained."""

import sys

import pytest

from components.registry_pusher import formats
from components.run_settings import RunSettings
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

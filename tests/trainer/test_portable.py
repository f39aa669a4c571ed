"""An encoder computes the same from its ONNX and Keras files, which need no layer of nnclr."""

import zipfile

import keras
import numpy as np
import onnxruntime
import pytest

from trainer import export, portable
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder

# Not square, so that exchanged axes are noticed.
SIZE = (33, 40)
CASES = [
    pytest.param({"name": "convnet", "width": 8}, marks=pytest.mark.long),
    {"name": "convnet", "width": 8, "batch_norm": True, "pooling": "average"},
    pytest.param({"name": "resnet18", "width": 2}, marks=pytest.mark.long),
    pytest.param({"name": "efficientnet-lite0"}, marks=pytest.mark.long),
    pytest.param({"name": "vit-tiny", "patch": 8}, marks=pytest.mark.long),
    # Convolutions of groups, GELU, normalisation of the input, and colours in the order blue, green, red.
    pytest.param({"name": "keras:ConvNeXtTiny", "preprocessing": "caffe"}, marks=pytest.mark.long),
]


@pytest.mark.parametrize("encoder", CASES, ids=lambda settings: f"{settings['name']}-{len(settings)}")
def test_all_formats_give_the_embeddings_of_the_saved_model(encoder, tmp_path):
    settings = TrainerSettings.model_validate({"encoder": encoder})
    keras.utils.set_random_seed(1)
    network = build_encoder(settings.encoder, SIZE)
    rng = np.random.default_rng(0)
    # Statistics of batch norm that differ from those that it starts with.
    network(rng.normal(3, 2, (8, *SIZE, 3)).astype(np.float32), training=True)
    export.export_encoder(network, settings, SIZE, str(tmp_path / "model"))
    pixels = rng.integers(0, 256, (5, *SIZE, 3), np.uint8)
    expected = export.Embeddings.of_export(str(tmp_path / "model"))(pixels)

    model = portable.keras_model(str(tmp_path / "model"))
    for written in portable.FORMATS.values():
        path = str(tmp_path / written.file)
        written.write(model, path)
        np.testing.assert_allclose(written.embed(path, pixels), expected, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(written.embed(path, pixels[:1]), expected[:1], rtol=1e-4, atol=2e-5)
    with zipfile.ZipFile(tmp_path / "encoder.keras") as content:
        assert '"trainer' not in content.read("config.json").decode()
    # Pixels of another range of values would give wrong embeddings, so that ONNX takes only the type of pixels.
    (taken,) = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx")).get_inputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("pixels", "tensor(uint8)", [*SIZE, 3])

"""MLflow's model of a release takes every picture file that ingest takes, and gives the same embeddings."""

import io
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2

from components.image_example_gen import decoding
from components.registry_pusher.served_encoder import Encoder
from tests.components.releases import SETTINGS
from tests.picture_files import NOT_SERVED, every_form
from trainer import export
from trainer.encoders import build_encoder

# The size of the pictures, so that nothing is resized.
SIZE = (40, 40)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> str:
    directory = str(tmp_path_factory.mktemp("served") / "model")
    keras.utils.set_random_seed(3)
    export.export_encoder(build_encoder(SETTINGS.encoder, SIZE), SETTINGS, SIZE, directory)
    return directory


@pytest.fixture(scope="module")
def encoder(exported) -> Encoder:
    loaded = Encoder()
    loaded.load_context(SimpleNamespace(artifacts={"saved_model": exported}))
    return loaded


def embed(encoder: Encoder, contents: list[bytes]) -> np.ndarray:
    return encoder.predict(None, pd.DataFrame({"image_bytes": contents}))


def test_every_form_gives_the_embedding_of_the_pixels_that_ingest_takes(exported, encoder):
    files = every_form()
    pixels = np.stack([decoding.decode_file(content) for content in files.values()])
    expected = export.Embeddings.of_export(exported)(pixels)
    found = embed(encoder, list(files.values()))
    # The decoders of JPEG round differently.
    tolerance = 0.05 * np.abs(expected).max()
    for name, one, other in zip(files, found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance if name.startswith("jpeg") else 1e-6, err_msg=name)
    served = {name: embedding for name, embedding in zip(files, found, strict=True) if name not in NOT_SERVED}
    serve = tf.saved_model.load(exported).signatures["serving_default"]
    directly = serve(image_bytes=tf.constant([files[name] for name in served]))["embeddings"]
    np.testing.assert_allclose(directly, list(served.values()), atol=1e-6)


def test_a_request_to_tensorflow_serving_fits_the_signature(exported, encoder):
    """The server itself has no package, so that its protocol's own messages stand for it."""
    content = every_form()["png"]
    sent = predict_pb2.PredictRequest()
    sent.model_spec.name, sent.model_spec.signature_name = "encoder", "serving_default"
    sent.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([content]))
    request = predict_pb2.PredictRequest.FromString(sent.SerializeToString())
    signature = tf.saved_model.load(exported).signatures[request.model_spec.signature_name]
    # REST's short form {"instances": [{"b64": ...}]} is allowed for a signature with one input of strings.
    (taken,) = signature.structured_input_signature[1].values()
    assert (taken.name, taken.dtype, taken.shape.as_list()) == ("image_bytes", tf.string, [None])
    inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
    answer = predict_pb2.PredictResponse()
    answer.outputs["embeddings"].CopyFrom(tf.make_tensor_proto(signature(**inputs)["embeddings"]))
    found = tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer.SerializeToString()).outputs["embeddings"])
    np.testing.assert_allclose(found, embed(encoder, [content]), atol=1e-6)


@pytest.mark.parametrize("pixels", [np.full((4, 4), 1 << 20, np.int32), np.full((4, 4), 0.5, np.float32)])
def test_what_ingest_refuses_is_refused(encoder, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF")
    with pytest.raises(ValueError, match="convert it to 8 or 16 bits"):
        embed(encoder, [file.getvalue()])

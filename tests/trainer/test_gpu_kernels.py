"""Every operation of the training step has a kernel for GPUs, which the wheel registers also where there is none.

An operation without one runs on the host: TensorFlow places it there without a word, and copies its inputs and outputs.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import pytest
import tensorflow as tf
import yaml
from tensorflow.python.framework import kernels

from trainer import loop
from trainer.config import TrainerSettings
from trainer.plan import Plan

_PRESETS = resources.files("pipeline") / "presets"
# Kernels of the type DEFAULT serve every kind of device.
_DEVICE_TYPES = ("GPU", "DEFAULT")
_CANVAS = 16


def traced_step(settings: TrainerSettings, size: tuple[int, int]) -> tf.Graph:
    """The graph of one step on stored images that are larger than `size`."""
    few = settings.model_copy(update={"support_set_size": 64, "batch_size": 8 * settings.accumulate})
    _, step = loop.build(few, Plan.of(few, 1000), size, 10, tf.distribute.get_strategy())
    canvas = [size[0] + _CANVAS, size[1] + _CANVAS]

    @tf.function(autograph=False)
    def graph_step(unlabelled, labelled, number):
        return step(unlabelled, labelled, number, size)

    def images(rows: int) -> dict[str, tf.TensorSpec]:
        return {"image": tf.TensorSpec([rows, *canvas, 3], tf.uint8), "shape": tf.TensorSpec([rows, 2], tf.float32)}

    labelled = images(10) | {"label": tf.TensorSpec([10], tf.int64)}
    return graph_step.get_concrete_function(images(few.batch_size), labelled, tf.TensorSpec([], tf.int64)).graph


@contextmanager
def as_with_a_gpu() -> Iterator[None]:
    """Lets the layers compute as on a machine with a GPU, without what is faster on a CPU only."""
    listed = tf.config.list_logical_devices
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.config, "list_logical_devices", lambda kind=None: listed("CPU" if kind == "GPU" else kind))
        yield


def without_gpu_kernel(graph: tf.Graph) -> Iterator[str]:
    """The operations, in all functions of the graph, that no kernel computes on a GPU."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    for node in nodes:
        if not any(_computes(kernel, node) for kernel in _registered(node.op)):
            types = {name: tf.as_dtype(value.type).name for name, value in node.attr.items() if value.type}
            yield f"{node.op} {types}"


@functools.cache
def _registered(operation: str) -> list:
    return list(kernels.get_registered_kernels_for_op(operation).kernel)


def _computes(kernel, node) -> bool:
    return kernel.device_type in _DEVICE_TYPES and all(
        {node.attr[constraint.name].type, *node.attr[constraint.name].list.type} - {0}
        <= set(constraint.allowed_values.list.type)
        for constraint in kernel.constraint
    )


@pytest.mark.parametrize(
    "preset",
    [
        "keras-example.yaml",
        *(
            pytest.param(file.name, marks=pytest.mark.long)
            for file in sorted(_PRESETS.iterdir(), key=lambda file: file.name)
            if file.name.endswith(".yaml") and file.name != "keras-example.yaml"
        ),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_computes_every_operation_of_a_presets_step(preset, precision):
    tree = yaml.safe_load((_PRESETS / preset).read_text())
    settings = TrainerSettings(**tree["trainer"])
    # The weights that Keras would download do not change the graph.
    kept = {"batch_norm_statistics": "pretrained"} if settings.encoder.keeps_statistics else {}
    encoder = settings.encoder.model_copy(update={"weights": None} | kept)
    changes = {"encoder": encoder, "precision": precision}
    with as_with_a_gpu():
        graph = traced_step(settings.model_copy(update=changes), (tree["data"]["image_size"],) * 2)
    assert len(graph.get_operations()) > 500
    assert sorted(set(without_gpu_kernel(graph))) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options"), [("efficientnet-lite0", {}), ("vit-tiny", {"patch": 8}), ("keras:MobileNetV2", {})]
)
def test_a_gpu_computes_every_operation_of_an_encoders_step(name, options):
    with as_with_a_gpu():
        graph = traced_step(TrainerSettings(encoder={"name": name} | options, precision="bfloat16"), (32, 32))
    assert sorted(set(without_gpu_kernel(graph))) == []


def test_an_operation_without_a_gpu_kernel_is_found():
    with tf.Graph().as_default() as graph:
        image = tf.zeros([1, 4, 4, 3], tf.uint8)
        tf.image.crop_and_resize(image, [[0.0, 0.0, 1.0, 1.0]], [0], [2, 2])
    assert list(without_gpu_kernel(graph)) == ["CropAndResize {'T': 'uint8'}"]

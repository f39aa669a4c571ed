"""Operations of TensorFlow that tf2onnx cannot translate by itself. Importing this module registers them."""

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op


@tf_op("Erfc")
class Erfc:
    """1 - erf(x), which TensorFlow uses for GELU, and for which ONNX has only erf."""

    @classmethod
    def version_9(cls, ctx, node, **_) -> None:
        """Replaces the node in the graph `ctx`."""
        dtype, shapes = ctx.get_dtype(node.output[0]), node.output_shapes
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", node.input)
        one = ctx.make_const(utils.make_name(node.name), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
        outputs = {"outputs": node.output, "shapes": shapes, "dtypes": [dtype]}
        ctx.make_node("Sub", [one.output[0], erf.output[0]], name=node.name, **outputs)

"""Models small enough to be made by a test, and to be checked by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHAPE = ("batch", 3, 224, 224)


def tiny_onnx(
    path: Path, weights: NDArray[Any], shape: tuple[Any, ...] = SHAPE, inputs: int = 1, softmax: bool = False
) -> Path:
    """The mean of each colour times `weights` (3 x classes). With a second input, that is added to the scores."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pictures"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores" if inputs == 1 and not softmax else "product"]),
    ]
    if inputs == 2:
        nodes.append(helper.make_node("Add", ["product", "beside"], ["scores"]))
    elif softmax:
        nodes.append(helper.make_node("Softmax", ["product"], ["scores"]))
    taken = [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, shape)]
    taken += [helper.make_tensor_value_info("beside", TensorProto.FLOAT, [1])] * (inputs - 1)
    given = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, weights.shape[1]])]
    graph = helper.make_graph(
        nodes, "tiny", taken, given, [numpy_helper.from_array(weights.astype(np.float32), "weights")]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path

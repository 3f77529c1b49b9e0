"""Tiny ONNX models with the inputs and outputs of those that find faces and tell them apart; they learned nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

IR, OPSET = 8, 11  # that OpenCV and ONNX Runtime read
STRIDES = (8, 16, 32)  # of YuNet's grids, in pixels
SIDE = 112
NUMBERS = 8  # of a description


def save(folder: Path, name: str, model: ModelProto) -> str:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return str(path)


def _model(nodes: Sequence[NodeProto], inputs: object, outputs: object, weights: Sequence[TensorProto]) -> ModelProto:
    graph = helper.make_graph(list(nodes), "tiny", inputs, outputs, list(weights))  # type: ignore[arg-type]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def _floats(name: str, shape: Sequence[int | str]) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _weights(name: str, values: NDArray[np.float32]) -> TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)


def embedding(
    side: int = SIDE, numbers: int = NUMBERS, fault: str = "", output: str = "fc1", colours: int = 3
) -> ModelProto:
    """Means of a 4 x 4 grid, mixed into `numbers`. `fault`: "nan" or "zero" in every answer, "wide" for a grid."""
    mix = np.random.default_rng(3).standard_normal((colours * 16, numbers))
    if fault:
        mix[:] = {"nan": np.nan, "zero": 0.0, "wide": 1.0}[fault]
    step = side // 4
    nodes = [
        helper.make_node("AveragePool", ["data"], ["grid"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("Gemm", ["flat", "mix", "none"], [output]),
    ]
    result = _floats(output, (1, numbers))
    if fault == "wide":
        nodes, result = [helper.make_node("Concat", ["data", "data"], [output], axis=0)], _floats(output, (2, "a"))
    weights = [] if fault == "wide" else [_weights("mix", mix), _weights("none", np.zeros(numbers))]
    return _model(nodes, [_floats("data", (1, colours, side, side))], [result], weights)


def attributes(side: int = SIDE, fault: str = "") -> ModelProto:
    """An "age", the mean of all values, and "expression", three numbers of which the last is the largest."""
    age = np.full((3, 1), np.nan if fault == "nan" else 1 / 3)
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "age_weights", "age_bias"], ["age"]),
        helper.make_node("Gemm", ["flat", "no_weights", "moods"], ["expression"]),
    ]
    weights = [
        _weights("age_weights", age),
        _weights("age_bias", np.array([30.0])),
        _weights("no_weights", np.zeros((3, 3))),
        _weights("moods", np.array([0.0, 1.0, 2.0])),
    ]
    outputs = [_floats("age", (1, 1)), _floats("expression", (1, 3))]
    return _model(nodes, [_floats("data", (1, 3, side, side))], outputs, weights)


def yunet(most: int = 3, fault: str = "") -> ModelProto:
    """Takes each bright cell of the first grid for a face; `fault` "nan" gives boxes that are no numbers."""
    nodes: list[NodeProto] = []
    weights = [
        numpy_helper.from_array(np.array([1, -1, count], np.int64), f"rows_{count}") for count in (1, 4, 10)
    ]
    outputs = []
    for stride in STRIDES:
        nodes.append(
            helper.make_node(
                "AveragePool", ["input"], [f"mean_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        sure = stride == STRIDES[0]
        for name, count, value in (
            ("cls", 1, 1 / 255 / 3 if sure else 0.0),
            ("obj", 1, 1 / 255 / 3 if sure else 0.0),
            ("bbox", 4, np.nan if fault == "nan" else 0.0),
            ("kps", 10, 0.0),
        ):
            key = f"{name}_{stride}"
            weights.append(_weights(f"{key}_w", np.full((count, 3, 1, 1), value)))
            nodes += [
                helper.make_node("Conv", [f"mean_{stride}", f"{key}_w"], [f"{key}_map"], kernel_shape=[1, 1]),
                helper.make_node("Transpose", [f"{key}_map"], [f"{key}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{key}_last", f"rows_{count}"], [key]),
            ]
    for name, count in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        outputs += [_floats(f"{name}_{stride}", (1, f"n_{stride}", count)) for stride in STRIDES]
    return _model(nodes, [_floats("input", (1, 3, "h", "w"))], outputs, weights)


def outside(folder: Path) -> ModelProto:
    """An embedding that has its weights in another file."""
    model = embedding()
    mix = model.graph.initializer[0]
    (folder / "elsewhere.bin").write_bytes(mix.raw_data)
    set_external_data(mix, location="elsewhere.bin")
    mix.ClearField("raw_data")
    mix.data_location = TensorProto.EXTERNAL
    return model


def of_own_operation() -> ModelProto:
    node = helper.make_node("Spy", ["data"], ["fc1"], domain="com.example")
    graph = helper.make_graph([node], "tiny", [_floats("data", (1, 3, 8, 8))], [_floats("fc1", (1, 8))])
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=IR)

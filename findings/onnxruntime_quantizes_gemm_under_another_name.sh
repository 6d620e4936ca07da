#!/usr/bin/env bash
# Expected: quantize_dynamic(op_types_to_quantize=["MatMul"]) leaves a Gemm node as it is, and nodes_to_exclude=["head"] leaves the node of
#   that name as it is, of whatever kind.
# Happens: a Gemm is taken apart into a MatMul and an Add before either list is looked at, so that its weights end in 8 bits all the same;
#   nodes_to_exclude with the name that it has in the model has no effect, and with that name and "_MatMul" behind it, which no node of
#   the model has, it is left in 32 bits. Nothing says so: a small output layer that was to stay exact is quantised.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.32.0' 'onnx==1.23.2' sympy >&2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging

import numpy as np
from onnx import TensorProto, helper, load, numpy_helper, save
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.CRITICAL)
draw = np.random.default_rng(0)
weights = [
    numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name)
    for name, shape in (("w", (16, 16)), ("v", (16, 3)), ("b", (3,)))
]
nodes = [
    helper.make_node("MatMul", ["x", "w"], ["hidden"], name="body"),
    helper.make_node("Gemm", ["hidden", "v", "b"], ["y"], name="head"),
]
graph = helper.make_graph(
    nodes,
    "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    weights,
)
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")


def stays(excluded):
    quantize_dynamic(
        "net.onnx", "small.onnx", op_types_to_quantize=["MatMul"], nodes_to_exclude=excluded, weight_type=QuantType.QInt8
    )
    kept = {one.name: one.data_type for one in load("small.onnx").graph.initializer}
    return {name: kept.get(name) == TensorProto.FLOAT for name in ("w", "v")}


found = {name or "nothing": stays([name] if name else []) for name in ("", "head", "head_MatMul")}
for excluded, kept in found.items():
    print(f"excluded: {excluded}; in 32 bits: {[name for name, is_kept in kept.items() if is_kept]}")
assert found == {
    "nothing": {"w": False, "v": False},
    "head": {"w": False, "v": False},
    "head_MatMul": {"w": False, "v": True},
}
PYTHON

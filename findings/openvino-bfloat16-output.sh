#!/usr/bin/env bash
# Found:      openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6
# Behaviour:  A bfloat16 output of a model is returned in Python as a NumPy array of dtype float16 with the bits of
#             bfloat16: no error, wrong values. `output.view(numpy.uint16)` shifted left by 16 gives the correct ones.
# Output:     put in [1.0, 2.0, -3.0, 0.5], out float16 [1.875, 2.0, -2.125, 1.75]
#             read as bfloat16: [1.0, 2.0, -3.0, 0.5]
# In foveal:  Affects models exported in bfloat16: convert their outputs to float32 in the graph (docs/deployment.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], "cast",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [4])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "cast.onnx")

x = np.array([1, 2, -3, 0.5], np.float32)  # exact in bfloat16 and in float16
compiled = openvino.Core().compile_model("cast.onnx", "CPU")
y = compiled({"x": x})[0]
print(f"put in {x.tolist()}, out {y.dtype} {y.tolist()} of an output declared {compiled.output(0).element_type}")
right = (y.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
print(f"read as bfloat16: {right.tolist()}")
assert y.dtype == np.float16 and not np.array_equal(y, x), "outputs in bfloat16 arrive right now"
assert np.array_equal(right, x)
PY

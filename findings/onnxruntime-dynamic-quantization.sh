#!/usr/bin/env bash
# Found:      onnxruntime 1.31.1, onnx 1.23.2
# Behaviour:  `quantize_dynamic` fails on a valid file with a linear layer (Gemm, transB=1) if the file also has the
#             shape of the weight in `value_info` (the note), as torch.onnx.export (2.15.0) does. Without it the graph is
#             quantised.
# Why:        The weight is transposed for MatMulInteger under its old name, and the shape in `value_info` is kept.
# Output:     without the note: ok
#             with the note: InferenceError: [ShapeInferenceError] Inferred shape and existing shape differ in
#               dimension 0: (16) vs (10)
# In foveal:  Affects exported classifiers: erase `value_info`, or run `quant_pre_process` first (docs/deployment.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import logging

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import InferenceError
from onnxruntime.quantization import quantize_dynamic

logging.disable()
weight = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)


def quantize(note):
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)], "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.zeros(10, np.float32), "bias")],
        value_info=[helper.make_tensor_value_info("weight", TensorProto.FLOAT, [10, 16])] if note else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "linear.onnx")
    quantize_dynamic("linear.onnx", "int8.onnx")


quantize(note=False)
print("without the note: ok")
try:
    quantize(note=True)
except InferenceError as error:
    print(f"with the note: InferenceError: {error}")
else:
    raise SystemExit("a noted shape no longer stops quantize_dynamic")
PY

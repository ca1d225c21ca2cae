#!/usr/bin/env bash
# Found:      openvino 2026.4.1, onnx 1.23.2; compared with onnxruntime 1.31.1
# Behaviour:  OpenVINO reads an ONNX Resize (opset 19) with `antialias=1`, or with `exclude_outside=1`, without warning
#             and computes it as if the attribute were 0. ONNX Runtime honours both.
# Output:     antialias: changes ONNX Runtime's result by up to 0.38, OpenVINO's by 0
#             exclude_outside: changes ONNX Runtime's result by up to 0.04, OpenVINO's by 0
# In foveal:  Images are resized with antialiasing, so preprocessing cannot be part of a graph for OpenVINO
#             (docs/deployment.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.31.1 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

x = np.zeros((1, 1, 16, 16), np.float32)
x[..., ::4] = 1
core = openvino.Core()


def resized(side, **attributes):
    """The image resized by ONNX Runtime and by OpenVINO."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, side, side])
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    graph = helper.make_graph([node], "resize", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, side, side])], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "resize.onnx")
    session = onnxruntime.InferenceSession("resize.onnx", providers=["CPUExecutionProvider"])
    compiled = core.compile_model("resize.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return session.run(None, {"x": x})[0], compiled({"x": x})[0]


for name, side, mode in (("antialias", 4, "linear"), ("exclude_outside", 24, "cubic")):
    off, on = resized(side, mode=mode, **{name: 0}), resized(side, mode=mode, **{name: 1})
    ort, ov = (np.abs(after - before).max() for before, after in zip(off, on))
    print(f"{name}: changes ONNX Runtime's result by up to {ort:.2f}, OpenVINO's by {ov:.0f}")
    assert np.abs(off[0] - off[1]).max() < 1e-4, "the two already differ without the attribute"
    assert ort > 0.02, f"ONNX Runtime ignores {name} now"
    assert ov == 0, f"OpenVINO honours {name} now"
PY

#!/usr/bin/env bash
# Found:      torch 2.13.0 and 2.15.0, onnxscript 0.7.2, onnx 1.23.2; run by onnxruntime 1.31.1
# Behaviour:  `torch.onnx.export` of `adaptive_avg_pool2d(x, 7)` with dynamic height and width silently exports
#             one AveragePool with the window of the example. At the size of the example the file is correct; near it
#             the shape is correct and the values are wrong; further away the shape is wrong too.
# Output:     [('AveragePool', [8, 8])]
#             56: (1, 3, 7, 7), error below 1e-6
#             60: (1, 3, 7, 7), error above 0.01
#             112: (1, 3, 14, 14) for (1, 3, 7, 7)
# In foveal:  TransNeXt's linear mode (`pool_size=7`) pools this way; exported programs pool by products instead
#             (docs/deployment.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import onnx
import onnxruntime
import torch


class Pool(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x, (7, 7))


free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
torch.onnx.export(Pool(), (torch.rand(1, 3, 56, 56),), "pool.onnx", dynamo=True, dynamic_shapes=(free,), verbose=False)
nodes = onnx.load("pool.onnx").graph.node
windows = [(n.op_type, [list(a.ints) for a in n.attribute if a.name == "kernel_shape"][0]) for n in nodes]
print(windows)
assert windows == [("AveragePool", [8, 8])], "the export has changed"

session = onnxruntime.InferenceSession("pool.onnx", providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
torch.manual_seed(0)
for side in (56, 60, 112):
    x = torch.rand(1, 3, side, side)
    expected, found = Pool()(x), torch.from_numpy(session.run(None, {name: x.numpy()})[0])
    if side == 112:
        print(f"{side}: {tuple(found.shape)} for {tuple(expected.shape)}")
        assert found.shape != expected.shape
    else:
        error = (found - expected).abs().max().item()
        print(f"{side}: {tuple(found.shape)}, error {error:.1e}")
        assert error < 1e-6 if side == 56 else error > 0.01
PY

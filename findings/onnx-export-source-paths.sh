#!/usr/bin/env bash
# Found:      torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2
# Behaviour:  A file of `torch.onnx.export(..., dynamo=True)` holds, beside every node, the lines of Python that it came
#             from, with the absolute paths of the machine that exported it: a file that is published publishes them.
# Output:     5 notes beside the node, among them pkg.torch.onnx.stack_trace
#             File "/.../network.py", line 6, in forward
# In foveal:  `foveal export` removes these notes, also from files of torch.export, and tests that no path is left.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
cd "$folder"
cat > network.py <<'PY'
import torch


class Network(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
PY
"$folder/venv/bin/python" - <<'PY'
import os

import onnx
import torch
from network import Network

torch.onnx.export(Network(), (torch.rand(2, 3),), "network.onnx", dynamo=True, verbose=False)
(node,) = onnx.load("network.onnx").graph.node
notes = {note.key: note.value for note in node.metadata_props}
trace = notes["pkg.torch.onnx.stack_trace"]
print(len(notes), "notes beside the node, among them pkg.torch.onnx.stack_trace")
print(trace.splitlines()[0].replace(os.getcwd(), "/..."))
assert os.path.join(os.getcwd(), "network.py") in trace, "the file no longer holds the path"
PY

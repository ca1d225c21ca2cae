#!/usr/bin/env bash
# Found:      torch 2.15.0
# Behaviour:  A module that disables autocast around lines without an operator, such as reading a buffer, is exported
#             and saved by torch.export without an error. torch.export.load refuses the file: the node of the empty
#             block has no "val" in its metadata. The program itself runs before it is saved.
# Output:     export: ok, run: ok, save: ok, load: SpecViolationError: Node.meta wrap_with_autocast is missing val field.
# In foveal:  `foveal export` removes such blocks before it saves a program, and loads every file before it gets its name.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>/dev/null
import torch


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.full((3,), 2.0))

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            scale = self.scale
        return x * scale


program = torch.export.export(Scale(), (torch.rand(2, 3),))
assert torch.equal(program.module()(torch.ones(2, 3)), torch.full((2, 3), 2.0))
torch.export.save(program, "scale.pt2")
try:
    torch.export.load("scale.pt2")
    outcome = "ok"
except Exception as error:
    outcome = f"{type(error).__name__}: {error}"
print(f"export: ok, run: ok, save: ok, load: {outcome}")
assert outcome.startswith("SpecViolationError"), "the file loads now"
PY

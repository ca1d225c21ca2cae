#!/usr/bin/env bash
# Found:      timm 1.0.31 on torch 2.15.0
# Behaviour:  `timm.layers.trunc_normal_` with a standard deviation of 0.02 writes -2 into about one weight in 500 of
#             a bfloat16 tensor and one in 4,000 of a float16 one, so networks created with `dtype=torch.bfloat16`
#             start with weights a hundred times too large. PyTorch's own `trunc_normal_` is correct in the same dtype.
# Why:        timm samples uniformly in [-1, 1) and applies erfinv; in half precision the sample is often exactly -1,
#             whose erfinv is -inf, which is clamped to the lower bound (-2 by default).
# Output:     torch.bfloat16: timm min -2.0, 768 of 393216 at -2; torch.nn.init min -0.0898
#             torch.float16: timm min -2.0, 94 of 393216 at -2; torch.nn.init min -0.0898
#             vit_tiny_patch16_224 in bfloat16: min -2.0
# In foveal:  Models are initialised in float32 and converted afterwards (CHANGELOG.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 timm==1.0.31 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import timm
import torch

for dtype in (torch.bfloat16, torch.float16):
    torch.manual_seed(0)
    theirs = timm.layers.trunc_normal_(torch.empty(1024, 384, dtype=dtype), std=0.02)
    plain = torch.nn.init.trunc_normal_(torch.empty(1024, 384, dtype=dtype), std=0.02)
    outliers = (theirs == -2).sum().item()
    print(f"{dtype}: timm min {theirs.min().item()}, {outliers} of {theirs.numel()} at -2; "
          f"torch.nn.init min {plain.min().item():.4f}")
    assert outliers > 0, "timm's initialisation no longer writes the lower bound"
    assert plain.abs().max() < 0.2, "PyTorch's own initialisation has outliers too"

net = timm.create_model("vit_tiny_patch16_224", dtype=torch.bfloat16)
smallest = min(parameter.min().item() for parameter in net.parameters())
print(f"vit_tiny_patch16_224 in bfloat16: min {smallest}")
assert smallest == -2
PY

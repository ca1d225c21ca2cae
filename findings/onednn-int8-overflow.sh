#!/usr/bin/env bash
# Found:      torch 2.13.0 and 2.15.0 on x86-64, where oneDNN does not use VNNI instructions
# Behaviour:  `torch.ops.onednn.qlinear_pointwise` returns wrong products for inputs and weights that use their 8 bits: a
#             sum of 64 products 255 * 127 is 1048544 instead of 2072640. With weights of at most 64 it is right.
# Why:        without VNNI oneDNN adds neighbouring products in int16, which holds 32767 (two of them are 64770). oneDNN
#             documents it; PyTorch's operator says nothing. ONEDNN_MAX_CPU_ISA=AVX2 stands for such a processor here.
# Output:     weight 64: sum 1044480, right is 1044480
#             weight 127: sum 1048544, right is 2072640
# In foveal:  A product of the largest numbers is tried before oneDNN is used for `foveal.quantize` (ops/int8/product.py).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" - <<'PY'
import torch

inputs = 64
for number, right in ((64, True), (127, False)):
    q = torch.full((8, inputs), 255, dtype=torch.uint8)
    weight = torch.full((32, inputs), number, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, list(q.shape))
    scales, zeros = torch.ones(32), torch.zeros(32, dtype=torch.int64)
    found = torch.ops.onednn.qlinear_pointwise(
        q, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    expected = inputs * 255 * number
    print(f"weight {number}: sum {found[0, 0].item():.0f}, right is {expected}")
    assert (found == expected).all().item() is right, "the sums are no longer cut off"
PY

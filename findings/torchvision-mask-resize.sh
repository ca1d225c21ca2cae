#!/usr/bin/env bash
# Found:      torchvision 0.26.0 with PyTorch 2.11.0
# Behaviour:  transforms.v2.functional.resize ignores interpolation=NEAREST_EXACT for a tv_tensors.Mask and samples the
#             nearest corner (NEAREST) without a warning: the mask is shifted by up to half a pixel relative to its box.
# Why:        The kernel for masks takes the argument and drops it (resize_mask has no such parameter).
# Output:     asked for nearest-exact, the mask equals nearest: True, nearest-exact: False
# In foveal:  Masks are resized as images, which honours the mode (src/foveal/tasks/detection/data/augment.py);
#             tests/tasks/detection/test_detection_data_augment.py compares masks with boxes.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 torchvision==0.26.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

pixels = torch.zeros(1, 90, 130, dtype=torch.uint8)
pixels[:, 7:43, 5:66] = 1
size = [38, 55]
asked = F.resize(tv_tensors.Mask(pixels), size, interpolation=InterpolationMode.NEAREST_EXACT)
modes = (InterpolationMode.NEAREST, InterpolationMode.NEAREST_EXACT)
nearest, exact = (torch.equal(asked.as_subclass(torch.Tensor), F.resize_image(pixels, size, mode)) for mode in modes)
print(f"asked for nearest-exact, the mask equals nearest: {nearest}, nearest-exact: {exact}")
assert (nearest, exact) == (True, False), "masks are resized differently now"
PY

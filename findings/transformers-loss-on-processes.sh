#!/usr/bin/env bash
# Found:      transformers 5.23.0 with accelerate 1.15.0; torch 2.13.0 and 2.15.0
# Behaviour:  The box losses of transformers' detectors (DETR's loss, shared by its relatives; Mask2Former's mask
#             losses are divided in the same way) grow with the number of processes. Two processes with the same
#             batch report twice the box losses of one process, where the mean over processes should change nothing.
# Why:        The number of boxes goes through `accelerate.utils.reduce`, whose default is the mean over processes,
#             and is then divided by the number of processes again.
# Output:     1 process: {'loss_bbox': 0.2111, 'loss_giou': 0.3405}, shortened here
#             2 processes, each with the same batch: {'loss_bbox': 0.4222, 'loss_giou': 0.6810}
# In foveal:  Its own losses divide once (docs/released_segmenters.md; test_segmentation_mask2former_processes.py).
#             Transformers' heads on Foveal backbones use transformers' loss: see docs/transformers.md.
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 scipy==1.17.1 pillow==12.3.0 numpy==2.4.6
cd "$folder"
export OMP_NUM_THREADS=1
cat > loss.py <<'PY'
import json

import torch
from accelerate import PartialState
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

state = PartialState(cpu=True)
torch.manual_seed(0)
backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic",
                        out_features=["stage2", "stage3", "stage4"])
config = DeformableDetrConfig(backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=2,
                              encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=10, num_labels=3)
model = DeformableDetrForObjectDetection(config).eval()
labels = [{"class_labels": torch.tensor([0, 1, 2]), "boxes": torch.rand(3, 4) * 0.2 + 0.4} for _ in range(2)]
losses = model(torch.rand(2, 3, 64, 64), labels=labels).loss_dict
if state.is_main_process:
    with open(f"{state.num_processes}.json", "w") as file:
        json.dump({name: losses[name].item() for name in ("loss_bbox", "loss_giou")}, file)
state.destroy_process_group()
PY
for processes in 1 2; do
    "$folder/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node "$processes" loss.py
done
"$folder/venv/bin/python" - <<'PY'
import json

one, two = (json.load(open(f"{count}.json")) for count in (1, 2))
print(f"1 process: {one}")
print(f"2 processes, each with the same batch: {two}")
for name in one:
    assert abs(two[name] / one[name] - 2) < 1e-3, f"{name} no longer doubles"
PY

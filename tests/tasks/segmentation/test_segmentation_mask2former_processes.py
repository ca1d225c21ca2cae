"""Training Mask2Former on two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.mask2former.losses import set_losses
from foveal.tasks.segmentation.mask2former.points import Segments

# Three segments on the first process; one on the second; then none.
LABELS = (torch.tensor([[[0, 1, 2]]]), torch.tensor([[[1, 1, IGNORED]]]), torch.tensor([[[IGNORED] * 3]]))
SCRIPT = """
import json, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from test_segmentation_mask2former_model import batch, small
from test_segmentation_mask2former_processes import LABELS, losses
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
found = [losses(LABELS[which]) for which in ((0, 1)[rank], (0, 2)[rank])]
torch.manual_seed(0)
model = DistributedDataParallel(small())
images, labels = batch(count=1)
sum(model(images, labels.clone() if rank == 0 else labels.clone().fill_(255)).values()).backward()
norms = [parameter.grad.norm().item() for parameter in model.parameters()]
print(json.dumps({"losses": found, "norms": norms}))
torch.distributed.destroy_process_group()
"""


def losses(labels):
    """Losses of the predictions for one image, equal on every process with the same labels."""
    torch.manual_seed(0)
    logits, masks = torch.randn(1, 5, 4), torch.randn(1, 5, 4, 6)
    found = set_losses([logits], [masks], Segments.of(labels, 3), 20)
    return {name: loss.item() for name, loss in found.items()}


@pytest.fixture(scope="module")
def together():
    """Output of two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent), str(Path(__file__).parents[2])])
    env = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**env, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    printed = []
    for one in runs:
        out, error = one.communicate(timeout=120)
        assert one.returncode == 0, error.decode()
        printed.append(json.loads(out.decode().splitlines()[-1]))
    return printed


@pytest.mark.parametrize(("step", "second", "mean"), [(0, 1, 2.0), (1, 2, 1.5)])
def test_mask_losses_are_divided_by_the_mean_number_of_segments_of_all_processes(together, step, second, mean):
    """Three segments and one, then three and none; class losses are a mean per process, as published."""
    for rank, which in enumerate((0, second)):
        alone, shared = losses(LABELS[which]), together[rank]["losses"][step]
        own = max((3, 1, 0)[which], 1)
        for name in ("mask", "dice"):
            assert shared[name] == pytest.approx(alone[name] * own / mean, rel=1e-5), name
        assert shared["class"] == pytest.approx(alone["class"], rel=1e-5)


def test_a_process_without_labels_gets_the_gradients_of_the_other(together):
    first, second = (printed["norms"] for printed in together)
    assert first == second
    assert sum(norm > 0 for norm in first) > 0.9 * len(first)

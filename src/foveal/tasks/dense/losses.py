"""What losses of sets of predictions share: their precision, and what their sums are divided by."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Costs and losses are not counted in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean_count(count: int, device: torch.device) -> Tensor:
    """``count`` as the mean over all processes that train together, at least 1: () float."""
    mean = torch.tensor(float(count), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean.clamp(min=1)

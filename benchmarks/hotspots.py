"""Profile a model: ``python benchmarks/hotspots.py transnext_tiny --form optimised``.

Prints the operators that take the most time, and the speed of matrix products in the model next to that of one large
product, the peak of this machine. Takes a single profile, so run it on an idle machine; ``foveal bench`` gives speeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import foveal

PRODUCTS = ("linear", "convolution", "addmm", "aten::mm", "bmm")


def main() -> None:
    """Profile one model on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--form", choices=["eager", "optimised"], default="eager")
    parser.add_argument("--mode", choices=["inference", "training"], default="inference")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rows", type=int, default=12)
    options = parser.parse_args()
    foveal.ops.keep_memory()
    torch.manual_seed(0)
    net = timm.create_model(options.model).eval()
    if options.form == "optimised":
        net = foveal.optimize(net)
    call = step(net, torch.randn(options.batch, 3, options.size, options.size), options.mode)
    for _ in range(3):
        call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"{options.model}, {options.form}, {options.mode}, batch {options.batch}, {total / 1e3:.0f} ms")
    for row in rows[: options.rows]:
        share = row.self_cpu_time_total / total
        print(f"{row.key[:44]:<44} {row.self_cpu_time_total / 1e3:8.1f} ms {share:6.1%} {row.count:5} calls")
    products = sum(row.self_cpu_time_total for row in rows if any(word in row.key for word in PRODUCTS))
    work = 2 * foveal.flops(timm.create_model(options.model), options.size).macs * options.batch
    work *= 3 if options.mode == "training" else 1
    print(f"convolutions, linear layers and products: {products / total:.0%} of the time")
    print(f"the whole network: {work / total / 1e3:.0f} GFLOP/s; a large product alone: {large_product():.0f} GFLOP/s")


def step(net: nn.Module, images: Tensor, mode: str) -> Callable[[], object]:
    """Return a function that runs a forward pass or, for training, a forward and a backward pass."""
    if mode == "training":
        net.train()
        return lambda: net(images).square().mean().backward()

    def forward() -> Tensor:
        with torch.inference_mode():
            return net(images)

    return forward


def large_product(side: int = 2048, rounds: int = 10) -> float:
    """Return the best GFLOP/s of several square products, with oneDNN and with PyTorch's default."""
    x, weight = torch.randn(side, side), torch.randn(side, side)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(rounds):
            for product in (foveal.ops.linear.linear, torch.nn.functional.linear):
                started = time.perf_counter()
                product(x, weight)
                best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


if __name__ == "__main__":
    main()

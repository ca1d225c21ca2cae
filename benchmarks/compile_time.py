"""Time until the first training step of a compiled network, from nothing, and of a second image size.

    python benchmarks/compile_time.py --models transnext_atto,transxnet_atto,convnext_atto

Every round compiles every model in a process of its own with an empty cache. Ratios are to the last model, of the same
round; their medians are printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="transnext_atto,transxnet_atto,convnext_atto", help="the last is 1")
    parser.add_argument("--sizes", default="128,160", help="sides of the square images in pixels, one after the other")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--time", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = list(map(int, options.sizes.split(",")))
    if options.time:
        return step(options.time, sizes, options.batch)
    models = options.models.split(",")
    rounds = [[compiled(model, options) for model in models] for _ in range(options.rounds)]
    for number, model in enumerate(models):
        times = [median(one[number][place] for one in rounds) for place in range(len(sizes))]
        ratios = [median(one[number][place] / one[-1][place] for one in rounds) for place in range(len(sizes))]
        cells = [f"{size}: {seconds:.1f} s ({ratio:.2f})" for size, seconds, ratio in zip(sizes, times, ratios)]
        print(f"{model:<20} {'   '.join(cells)}")


def compiled(model: str, options: argparse.Namespace) -> list[float]:
    """Return the seconds of the first step at every size, in a new process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, __file__, "--time", model, "--sizes", options.sizes, "--batch", str(options.batch)]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        )
    return json.loads(done.stdout.splitlines()[-1])


def step(model: str, sizes: list[int], batch: int) -> None:
    """Print the seconds of the first step at each size as JSON."""
    import timm
    import torch

    import foveal  # noqa: F401  registers the models

    torch.compile(torch.nn.Linear(2, 2))(torch.ones(1, 2)).sum().backward()  # what every process pays once
    net = timm.create_model(model, num_classes=10)
    run = torch.compile(net)
    seconds = []
    for size in sizes:
        begin = time.perf_counter()
        run(torch.randn(batch, 3, size, size)).sum().backward()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()

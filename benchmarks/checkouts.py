"""Compare the speed of networks in two checkouts of this repository, on the CPU.

    python benchmarks/checkouts.py --before ../other

One process per checkout holds the networks; both are asked in turn, so each ratio is of adjacent measurements. Shown
are the median times and the 20th, 50th and 80th percentile of the ratio here / before: 1 is the same speed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from start_up import HERE

FORMS = ("eager", "optimised", "training")
WORKER = """
import json, sys, time
import timm, torch
import foveal

torch.set_num_threads(int(sys.argv[1]))
foveal.ops.keep_memory()
prepared = {}

def prepare(name, form, batch):
    torch.manual_seed(0)
    net, images = timm.create_model(name), torch.randn(batch, 3, 224, 224)
    if form == "training":
        net.train()
        def step():
            net.zero_grad()
            torch.nn.functional.cross_entropy(net(images), torch.arange(batch)).backward()
        return step
    net = foveal.optimize(net.eval()) if form == "optimised" else net.eval()
    def infer():
        with torch.inference_mode():
            net(images)
    return infer

for line in sys.stdin:
    asked = tuple(json.loads(line))
    if asked not in prepared:
        prepared.clear()
        prepared[asked] = prepare(*asked)
        prepared[asked]()
    started = time.perf_counter()
    prepared[asked]()
    print(time.perf_counter() - started, flush=True)
"""


class Checkout:
    """A process that times the networks of one checkout."""

    def __init__(self, folder: Path, threads: int):
        self.folder = folder
        environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
        words = [sys.executable, "-c", WORKER, str(threads)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, text=True)

    def seconds(self, model: str, form: str, batch: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([model, form, batch]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.folder}: the process that measures this checkout ended, see its message above.")
        return float(answer)

    def close(self) -> None:
        self.process.communicate()


def compare(before: Checkout, here: Checkout, model: str, form: str, batch: int, rounds: int) -> list[list[float]]:
    """Return the seconds of both in each round, after one round that is not counted."""
    rows = []
    for number in range(rounds + 1):
        pair = (before, here) if number % 2 else (here, before)
        found = {one: one.seconds(model, form, batch) for one in pair}
        rows.append([found[before], found[here]])
    return rows[1:]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout, with its kernels compiled")
    parser.add_argument("--models", nargs="+", default=["transnext_tiny", "transxnet_s"])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args(words)
    if given.rounds < 2:
        parser.error("--rounds must be at least 2.")
    before, here = (Checkout(folder.resolve(), given.threads) for folder in (given.before, HERE))
    print(f"{'model':<16}{'form':<11}{'before':>11}{'here':>11}   ratio of the times: 20 %, median, 80 %")
    for model in given.models:
        for form in given.forms:
            rows = compare(before, here, model, form, given.batch, given.rounds)
            first, second = (1000 * statistics.median(column) for column in zip(*rows, strict=True))
            low, _, _, high = statistics.quantiles([b / a for a, b in rows], n=5, method="inclusive")
            middle = statistics.median(b / a for a, b in rows)
            print(
                f"{model:<16}{form:<11}{first:>8.1f} ms{second:>8.1f} ms   {low:.3f}, {middle:.3f}, {high:.3f}",
                flush=True,
            )
    before.close()
    here.close()


if __name__ == "__main__":
    main()

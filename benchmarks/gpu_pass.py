"""What a GPU shows in nine minutes: whether every kernel is right on it, and how fast and how large the networks are.

    python benchmarks/gpu_pass.py

Parts, in this order: ``kernels``, every operator next to its formula in float64, forward and backward, in three dtypes;
``attention``, the layers of TransNeXt-T at batch 256; ``networks``, inference next to ConvNeXt-T and Swin-T;
``training``, a step with the host's and the kernels' time; ``compiled``, inference and training after torch.compile.
Each runs in child processes for its share of the time, so that nothing one part does can spoil another. Results are
written after each row, to benchmarks/results/gpu-pass-DEVICE-DATE.json or --out, and summed up at the end. Needs
neither an installation of foveal nor a connection: torch, torchvision, timm, triton, numpy, pillow and safetensors are
enough. ``--device cpu`` tries the whole command without a GPU, on tiny sizes.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_parts.summary import summary
from gpu_parts.supervise import Lane, Part, processors, run_part

STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parents[1]
RESERVE = 5.0  # seconds for the summary, and for children that are stopped
DTYPES, GROUPS = ("bf16", "fp32", "fp16"), ("attention", "convolution")
PARTS = {
    part.name: part
    for part in (
        Part("kernels", 0.28, tuple(f"{group} {dtype}" for group in GROUPS for dtype in DTYPES)),
        Part("attention", 0.10),
        Part("networks", 0.12),
        Part("training", 0.20),
        Part("compiled", 0.30, row_share=1.0),
    )
}
Results = dict[str, Any]

if importlib.util.find_spec("foveal") is None:  # a clone without an installation
    sys.path.insert(0, str(ROOT / "src"))


def main() -> int:
    """Run the command, or one of its child processes; return the exit status."""
    options = parse()
    if options.child:
        run_child(options)
        return 0
    try:
        facts = machine(options.device)
    except (ImportError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    out = output_file(options, facts)
    facts["commit"] = options.commit or facts["commit"]
    results: Results = {"facts": facts, "minutes": options.minutes, "small": options.small, "parts": {}}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_parts(options, results, out)
        status = 0
    except KeyboardInterrupt:
        status = 130
    write(out, results)
    print(summary(results, str(out)))
    return status


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="limit of the whole command")
    parser.add_argument("--out", type=Path, help="file of the results")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a trial with tiny sizes")
    parser.add_argument("--small", action="store_true", help="tiny shapes and networks")
    parser.add_argument("--commit", default="", help="commit of the source, where it is a copy without .git")
    for hidden in ("--child", "--lane", "--rows"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.parts = [name for name in PARTS if name in options.parts.split(",")]
    options.small |= options.device == "cpu"
    if options.device != "cpu" and not options.device.startswith("cuda"):
        parser.error("--device is cuda, cuda:1 and so on, or cpu.")
    if not options.parts or options.minutes <= 0:
        parser.error(f"--parts takes some of {', '.join(PARTS)}, --minutes a positive number.")
    return options


def machine(device: str) -> dict[str, Any]:
    """Return the facts about device and software. Raises RuntimeError if there is no such device."""
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("No CUDA device was found: run this on a machine with a GPU, or try it with --device cpu.")
    from foveal.bench.machine import machine_facts

    facts: dict[str, Any] = {**machine_facts(device, False), "python": platform.python_version()}
    del facts["keep_memory"]
    facts |= {"torchvision": version("torchvision"), "numpy": version("numpy"), "processors": processors()}
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"cuda": torch.version.cuda, "driver": driver(), "memory_mib": properties.total_memory // 2**20}
        facts |= {"capability": f"{properties.major}.{properties.minor}"}
    return facts


def version(package: str) -> str:
    """Return the version of an installed package, or "none"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def driver() -> str:
    """Return the version of NVIDIA's driver, or "unknown"."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found[0] if found else "unknown"


def output_file(options: argparse.Namespace, facts: dict[str, Any]) -> Path:
    """Return the file to write: --out, or a new one in benchmarks/results. Exits if its folder cannot be written to."""
    from foveal.bench.machine import slug
    from foveal.errors import FovealError
    from foveal.files import check_writable, make_folder

    folder = options.out.absolute().parent if options.out else ROOT / "benchmarks" / "results"
    try:
        check_writable(folder)
        make_folder(folder)
    except FovealError as error:
        sys.exit(str(error))
    if options.out:
        return options.out
    stem = f"gpu-pass-{slug(facts['device'])}-{facts['date'][:10]}"
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.json" for number in range(1, 1000))
    return next(folder / name for name in names if not (folder / name).exists())


def write(out: Path, results: Results) -> None:
    """Write the results; the file is whole at every moment."""
    from foveal.files import atomic_file

    results["seconds"] = round(time.monotonic() - STARTED, 1)
    with atomic_file(out) as part:
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def run_parts(options: argparse.Namespace, results: Results, out: Path) -> None:
    """Run the parts one after another. Time that a part leaves goes to the following ones."""
    end = STARTED + 60 * options.minutes - RESERVE
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(options.parts):
            shares = [PARTS[other].share for other in options.parts[place:]]
            limit = max(0.0, end - time.monotonic()) * shares[0] / sum(shares)

            def on_change(result: Results, name: str = name) -> None:
                results["parts"][name] = result
                write(out, results)

            result = run_part(PARTS[name], lanes(PARTS[name], options, Path(folder)), limit, on_change)
            print(f"{name}: {result['state']}, {len(result['rows'])} rows, {result['seconds']} s", file=sys.stderr)


def lanes(part: Part, options: argparse.Namespace, folder: Path) -> list[Lane]:
    """Return the lanes of a part. Without a GPU, kernels run in Triton's interpreter, which is exact only in fp32."""
    from foveal.ops.verdicts import CHECK

    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    environment.pop("TRITON_INTERPRET", None)
    if part.name == "kernels":
        environment[CHECK] = "0"  # a kernel that fails at its first use is measured all the same
    names = part.lanes
    if part.name == "kernels" and options.device == "cpu":
        environment["TRITON_INTERPRET"] = "1"
        names = tuple(name for name in names if name.endswith("fp32"))
    found = []
    for number, name in enumerate(names):
        rows = folder / f"{part.name}-{number}.jsonl"
        command = [sys.executable, str(Path(__file__).resolve()), "--child", part.name, "--lane", name]
        command += ["--rows", str(rows), "--device", options.device, *(["--small"] if options.small else [])]
        found.append(Lane(name, command, rows, environment))
    return found


def run_child(options: argparse.Namespace) -> None:
    """Measure one lane of a part."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    end_with_parent()
    import torch
    from gpu_parts import kernels, networks
    from gpu_parts.journal import Journal

    index = torch.device(options.device).index
    if index is not None and torch.device(options.device).type == "cuda":
        torch.cuda.set_device(index)
    journal = Journal(Path(options.rows), options.device)
    if options.child == "kernels":
        kernels.kernels(journal, options.lane, options.device, options.small)
    else:
        getattr(networks, options.child)(journal, networks.Scale(options.device, options.small))


def end_with_parent() -> None:
    """Ask Linux to end this process with its parent, even if that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main())

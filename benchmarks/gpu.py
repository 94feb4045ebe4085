"""All that is to be known on a CUDA device, in one command that fits into ten minutes.

    python benchmarks/gpu.py --output FOLDER [--minutes 9.5] [--parts right times ...]
                             [--batches 512 2048 8192 ...] [--rounds 5] [--small]

Writes FOLDER/report.json and, as tables for docs/scaling.md, FOLDER/report.md, anew after each
line, so that a run that is cut keeps what it has. Parts, in this order:

    right     value and gradients of each kernel against the dense loss in float64
    times     forward and backward, bfloat16 and float32: plain torch, open_clip's loss, dense,
              tiles, kernels and "auto", beside four products at the speed that was measured
    steps     a training step of ViT-B/16 and a text tower of 12 layers, with us and without, and
              memory
    trainings the recipe emoji_infonce_mmts in float32, bfloat16 and float16
    graphs    losses captured in a CUDA graph, against the same calls one by one
    tests     pytest -m gpu

Times are medians of rounds in which the contenders take turns, after a warm-up that also compiles;
memory is the peak above what is held before. What does not fit into the minutes, or into memory,
is named in the report. Without a CUDA device, or with --small, every part runs in small on the
CPU, kernels interpreted; such a report says that nothing was measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

#: batch sizes, width, rounds, and batch of the training step, of a run in small
SMALL = {"batches": [48], "dim": 16, "rounds": 1, "step_batch": 4}
PARTS = ("right", "times", "steps", "trainings", "graphs", "tests")


class Report:
    """What was found so far, in a folder.

    Args:
        folder: gets the two files.
        device: cuda or cpu.
        seconds: after which no further line is begun.
    """

    def __init__(self, folder: Path, device: str, seconds: float) -> None:
        self.folder, self.ends = folder, time.monotonic() + seconds
        self.started = time.monotonic()
        self.found: dict[str, Any] = {
            "device": described(device),
            "on_gpu": device == "cuda",
            "parts": {},
            "left_out": [],
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()

    def has_time(self, what: str, seconds: float = 0.0) -> bool:
        """Return whether so many seconds are left; if not, name what is left out."""
        if self.seconds_left > seconds:
            return True
        self.leave_out(what, "no time left")
        return False

    def leave_out(self, what: str, reason: str) -> None:
        self.found["left_out"].append(f"{what}: {reason}")
        self.write()

    def add(self, part: str, line: dict[str, Any]) -> None:
        """Add a line to a part, write the files and show the line."""
        self.found["parts"].setdefault(part, []).append(line)
        self.write()
        print(part, json.dumps(line), flush=True)

    def write(self) -> None:
        from gpu_page import page

        self.found["seconds"] = round(time.monotonic() - self.started, 1)
        for name, text in (
            ("report.json", json.dumps(self.found, indent=1)),
            ("report.md", page(self.found)),
        ):
            fresh = self.folder / f"{name}.part"
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self.folder / name)


def described(device: str) -> dict[str, str]:
    """Return the name of the device and the versions beside it."""
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "not installed"
    name = platform.machine()
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        name = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, sm_{major}{minor}"
    return {
        "name": name,
        "torch": torch.__version__,
        "triton": triton,
        "python": platform.python_version(),
    }


def run_part(name: str, report: Report, args: argparse.Namespace, device: str) -> None:
    """Run a part to its end, or to its error, which is named in the report."""
    import gpu_losses
    import gpu_training

    run = getattr(gpu_training if hasattr(gpu_training, name) else gpu_losses, name)
    if not report.has_time(name):
        return
    try:
        run(report, args, device)
    except Exception as error:  # a part that fails must not take the others with it
        report.leave_out(name, f"failed, {type(error).__name__}: {str(error).splitlines()[0]:.300}")
    if device == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the report")
    parser.add_argument("--minutes", type=float, default=9.5, help="after which nothing is begun")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batches", type=int, nargs="+", default=[2**k for k in range(9, 17)])
    parser.add_argument("--dim", type=int, default=512, help="embedding width")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after one warm-up")
    parser.add_argument("--step-batch", type=int, default=1024, help="pairs of a training step")
    parser.add_argument("--small", action="store_true", help="every part in small, on the CPU")
    args = parser.parse_args()
    device = "cpu" if args.small or not torch.cuda.is_available() else "cuda"
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
        args.small = True
        vars(args).update(SMALL)
    args.triton = find_spec("triton") is not None
    report = Report(args.output, device, 60 * args.minutes)
    for name in args.parts:
        run_part(name, report, args, device)
    print(f"\n{(args.output / 'report.md').read_text(encoding='utf-8')}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()

"""Training on a device: steps of a real size with us and without, precisions, and the tests."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gpu_losses import in_turns
from torch import Tensor, nn
from torch.nn import functional as F

import tauten as tt

if TYPE_CHECKING:
    from gpu import Report

ROOT = Path(__file__).resolve().parents[1]
#: files of tests that need a GPU
TESTS = ("tests/pairwise/test_triton.py", "tests/test_state.py", "tests/losses/test_on_gpu.py")
SAMPLES = 100_000


def towers(small: bool) -> nn.Module:
    """Return CLIP's ViT-B/16 and text tower of 12 layers, with random weights."""
    from transformers import CLIPConfig, CLIPModel

    text: dict[str, Any] = {"num_hidden_layers": 12}
    vision: dict[str, Any] = {"patch_size": 16, "image_size": 224}
    if small:
        shared = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        text = {**shared, "num_hidden_layers": 2, "vocab_size": 64, "max_position_embeddings": 8}
        text |= {"eos_token_id": 63, "bos_token_id": 62, "pad_token_id": 0}
        vision = {**shared, "num_hidden_layers": 2, "patch_size": 16, "image_size": 32}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision))
    model.gradient_checkpointing_enable()
    return model.train()


def a_batch(model: Any, batch: int, device: str) -> dict[str, Tensor]:
    config, generator = model.config, torch.Generator().manual_seed(0)
    side, words = config.vision_config.image_size, config.text_config.max_position_embeddings
    pixels = torch.randn(batch, 3, side, side, generator=generator)
    ids = torch.randint(1, config.text_config.vocab_size - 2, (batch, words), generator=generator)
    ids[:, -1] = config.text_config.eos_token_id
    return {"pixel_values": pixels.to(device), "input_ids": ids.to(device)}


def without_us(x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    """The loss of CLIP in plain torch, with a constant τ."""
    logits = F.normalize(x.float(), dim=1) @ F.normalize(y.float(), dim=1).T / 0.07
    target = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def with_us() -> dict[str, Any]:
    counts = torch.randint(1, 1000, (SAMPLES,), generator=torch.Generator().manual_seed(1))
    control = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.2), period=1000)
    return {"MM-TS": tt.InfoNCE(control), "iSogCLR": tt.iSogCLR(SAMPLES, tau_init=0.07)}


def steps(report: Report, args: argparse.Namespace, device: str) -> None:
    """A step of both towers in bfloat16 with checkpointed activations, loss and AdamW."""
    if not report.has_time("steps", 30 if device == "cuda" else 0):
        return
    torch.manual_seed(0)
    model = towers(args.small).to(device)
    data = a_batch(model, args.step_batch, device)
    index = torch.randperm(SAMPLES)[: args.step_batch].to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    kinds = {"without us": without_us} | {n: loss.to(device) for n, loss in with_us().items()}

    def step(loss_fn: Any) -> None:
        with torch.autocast(device, torch.bfloat16):
            found = model(**data)
            loss = loss_fn(found.image_embeds, found.text_embeds, index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(loss_fn, nn.Module):
            loss_fn.step()

    named: dict[str, Callable[[], Any]] = {
        name: partial(step, kind) for name, kind in kinds.items()
    }
    found = in_turns(named, args.rounds, device)
    base = found.get("without us")
    for name in named:
        line: dict[str, Any] = {"step": name, "batch": args.step_batch}
        if name not in found:
            report.add("steps", line | {"ms": None, "reason": "out of memory"})
            continue
        line |= found[name]
        if base is not None:
            line |= {"ratio": found[name]["ms"] / base["ms"]}
            line |= {"more_mib": found[name]["mib"] - base["mib"]}
        report.add("steps", line)


def trainings(report: Report, args: argparse.Namespace, device: str) -> None:
    """The recipe in each precision: what it scores, its seconds, and steps that were left out."""
    from tauten.recipes import get
    from tauten.training import train

    for precision in ("fp32", "bf16", "fp16"):
        if not report.has_time(f"trainings {precision}", 20 if device == "cuda" else 0):
            continue
        with tempfile.TemporaryDirectory() as root:
            config = get("emoji_infonce_mmts")(Path(root) / "run", epochs=1 if args.small else 5)
            config.device, config.optim.precision = device, precision
            config.progress = config.tensorboard = False
            if args.small:
                config.data.limit, config.optim.batch_size, config.evaluation.bootstrap = 24, 8, 0
                config.model.channels, config.model.dim, config.model.text_width = (4, 4), 8, 8
            start = time.perf_counter()
            try:
                result = train(config)
            except ValueError as error:
                reason = str(error).splitlines()[0][:200]
                report.add("trainings", {"precision": precision, "score": None, "reason": reason})
                continue
            history = (config.output / "history.jsonl").read_text().splitlines()
            last = [json.loads(line) for line in history if "steps_left_out" in line]
        line = {"precision": precision, "score": result.test["mean_recall"]}
        line |= {"steps": result.total_steps, "seconds": time.perf_counter() - start}
        line |= {"left_out": last[-1]["steps_left_out"] if last else 0, "reason": ""}
        report.add("trainings", line)


def tests(report: Report, args: argparse.Namespace, device: str) -> None:
    """The tests that need a GPU, in a process of their own."""
    files = [str(ROOT / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *files]
    if not report.has_time("tests", 0 if args.small else 30):
        return
    limit = max(report.seconds_left, 1)
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        report.leave_out("tests", f"not done after {limit:.0f} s")
        return
    said = done.stdout.strip().splitlines() or [done.stderr[-200:]]
    line: dict[str, Any] = {"exit": done.returncode, "said": re.sub(r"^=+ | =+$", "", said[-1])}
    line["failed"] = [one for one in said if one.startswith(("FAILED", "ERROR"))]
    report.add("tests", line)

"""Failures of a training whose loss is no number, and what is written about them."""

from __future__ import annotations

import json

from torch import Tensor

from tauten.files import replace_text
from tauten.losses import ContrastiveLoss, NonFiniteLossError
from tauten.training import processes
from tauten.training.run.names import FAILURE
from tauten.training.run.run_folder import RunFolder


def failure(
    reason: str, step: int, index: Tensor, loss_fn: ContrastiveLoss, folder: RunFolder
) -> ValueError:
    """Return the error that ends the run; all processes ask, and the first writes and says why.

    Args:
        reason: what was NaN or infinite.
        step: optimiser steps done.
        index: (n,) long, positions of this process's part of the batch.
        loss_fn: its range of τ is that of the last batch that had a loss.
        folder: gets ``failure.json``, with the positions of the whole batch.
    """
    known = loss_fn.last_tau
    ends = None if known is None else [float(known[1].min()), float(known[1].max())]
    parts = processes.gather((reason, index.tolist(), ends))
    reason = "; ".join(dict.fromkeys(part[0] for part in parts))
    if processes.rank() > 0:
        return processes.ElsewhereError(f"process 0: {reason}")
    positions = [i for part in parts for i in part[1]]
    spans = [part[2] for part in parts if part[2] is not None]
    ends = [min(low for low, _ in spans), max(high for _, high in spans)] if spans else None
    return _report(reason, step, positions, ends, loss_fn.strength_name, folder)


def _report(
    reason: str,
    step: int,
    positions: list[int],
    ends: list[float] | None,
    name: str,
    folder: RunFolder,
) -> NonFiniteLossError:
    last = folder.resumable()
    report = {
        "step": step,
        "reason": reason,
        "index": positions,
        f"{name}_range": ends,
        "last_good_checkpoint": last.name if last else None,
    }
    replace_text(folder.path / FAILURE, json.dumps(report, indent=1))
    span = "not known yet" if ends is None else f"in [{ends[0]:g}, {ends[1]:g}]"
    shown = ", ".join(map(str, positions[:10])) + (", ..." if len(positions) > 10 else "")
    return NonFiniteLossError(
        f"training stopped at step {step}: {reason}. Batch of {len(positions)} samples: {shown} "
        f"(all in {FAILURE}); {name} {span}; "
        f"last good checkpoint: {last.name if last else 'none'}. A lower learning rate, "
        f"optim.max_grad_norm, or a higher {name} usually helps"
    )

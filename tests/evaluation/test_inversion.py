"""Inputs are searched in every mode of gradients, and refused where they cannot be."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.nn import functional as F

import tauten as tt


@pytest.mark.parametrize(
    "mode", [contextlib.nullcontext, torch.no_grad, torch.inference_mode], ids=str
)
def test_inputs_are_found_in_every_mode(mode):
    torch.manual_seed(0)
    encoder, targets, start = torch.nn.Linear(4, 3), torch.randn(2, 5, 3), torch.randn(5, 4)
    with mode():
        found = tt.evaluation.inverted(targets[0] + targets[1], encoder, start + 0, steps=200)
    before = F.cosine_similarity(encoder(start), targets.sum(0)).mean()
    after = F.cosine_similarity(encoder(found.clone()), targets.sum(0)).mean()
    assert after > max(float(before), 0.9)
    assert encoder.weight.grad is None


@pytest.mark.parametrize("which", ["start", "targets", "whole numbers"])
def test_inputs_that_cannot_be_searched_are_refused(which):
    start, targets = torch.randn(5, 3), torch.randn(5, 3)
    if which == "whole numbers":
        start = start.long()
    else:
        {"start": start, "targets": targets}[which][1, 1] = float("nan")
    with pytest.raises(ValueError, match="finite floating numbers"):
        tt.evaluation.inverted(targets, torch.nn.Identity(), start, steps=2)

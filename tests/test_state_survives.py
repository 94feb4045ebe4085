"""Killed in the middle of a schedule and started again: every stateful loss and control."""

import signal
from pathlib import Path

import pytest
import torch

from cases import FURTHER
from forks import Fork, run

SCRIPT = Path(__file__).with_name("survivor.py")
LOSSES = ["infonce", "equalized", "reweighted", "dcl", "siglip", "max-margin", "sogclr", "robust"]
LOSSES += ["nuclr", "isogclr", "fastclip-v0", "fastclip-v1", "fastclip-v2", "fastclip-v3"]
LOSSES += ["grows", "grows-adam", "two-ids", "two-ids-nuclr", "two-ids-grow", "two-views"]
LOSSES += [*FURTHER]
CONTROLS = ["learnable", "cosine", "mmts", "composed", "individual", "individual-adam", "tempnet"]
CONTROLS += ["tau", "dystress", "temo", "macl", "glate", "pair-distance"]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What one run without a stop and one with a SIGKILL ended with, and what was saved between."""
    folder = tmp_path_factory.mktemp("survivor")
    run(SCRIPT, "whole", folder)
    assert Fork(SCRIPT, "killed", folder).wait().returncode == -signal.SIGKILL
    assert not (folder / "killed.pt").exists()
    run(SCRIPT, "resumed", folder)
    found = {what: torch.load(folder / f"{what}.pt") for what in ("whole", "resumed")}
    return found | {"saved": torch.load(folder / "saved.pt")["runs"]}


def tensors(state, prefix=""):
    """Every tensor and number in it, by its path."""
    if isinstance(state, dict):
        state = state.items()
    elif isinstance(state, (list, tuple)):
        state = enumerate(state)
    else:
        return {prefix: torch.as_tensor(state)}
    return {
        path: tensor
        for key, value in state
        if value is not None
        for path, tensor in tensors(value, f"{prefix}/{key}").items()
    }


def test_every_loss_and_every_control_is_among_them(ends):
    words = {word for name in ends["whole"] for word in name.split()}
    assert words >= {*LOSSES, *CONTROLS}


def test_the_end_is_the_same_bit_for_bit(ends):
    """Weights, tables, τ, the optimiser's moments and the losses of each step after the save."""
    whole, resumed = tensors(ends["whole"]), tensors(ends["resumed"])
    assert whole.keys() == resumed.keys()
    different = [name for name, value in whole.items() if not torch.equal(value, resumed[name])]
    assert different == []


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("loss_fn/_step", "infonce cosine"),
        ("loss_fn/strength._step", "infonce cosine"),
        ("loss_fn/strength.a.a.a.parameter", "infonce composed"),
        ("loss_fn/strength.parameter", "infonce learnable"),
        ("loss_fn/bias.parameter", "siglip macl"),
        ("loss_fn/strength.velocity", "infonce glate"),
        ("loss_fn/running.mean", "equalized mmts"),
        ("loss_fn/strength.tables.y2x.values", "dcl individual"),
        ("loss_fn/strength.tables.x2y.visits", "infonce individual-adam"),
        ("loss_fn/strength.networks.x2y.prototypes", "dcl tempnet"),
        ("loss_fn/strength.heads.y2x.weight", "infonce tau"),
        ("loss_fn/tables.x2y.values", "sogclr macl"),
        ("loss_fn/tables.y2x.values", "two-ids"),
        ("loss_fn/tables.x2y.values", "two-views"),
        ("loss_fn/tables.x2y.values", "grows"),
        ("loss_fn/offsets.x2y.values", "two-ids-nuclr"),
        ("loss_fn/offsets.y2x.values", "nuclr mmts"),
        ("loss_fn/largest", "nuclr cosine"),
        *(("loss_fn/tables.y2x.values", f"fastclip-v{v}") for v in range(4)),
        ("loss_fn/_step", "supremix mmts"),
        ("loss_fn/prototypes.vectors", "palm mmts"),
        ("loss_fn/prototypes.vectors", "swav mmts"),
        ("loss_fn/gate.classes.weight", "simlap mmts"),
        ("loss_fn/temperatures.0.last.weight", "amcl own"),
        ("model/x.weight", "max-margin mmts"),
    ],
)
def test_the_state_was_in_motion_when_it_was_saved(ends, kind, runs):
    """What does not move between the save and the end would prove nothing."""
    saved, end = (tensors(ends[when])[f"/{runs}/{kind}"] for when in ("saved", "whole"))
    assert saved.shape != end.shape or not torch.equal(saved, end)

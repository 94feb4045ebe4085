"""A batch that is refused leaves nothing behind, so that a loop may skip it and go on."""

import pytest
import torch

import tauten as tt

N = 6
LOSSES = {
    "sogclr": lambda: tt.SogCLR(N, 0.1, 0.8),
    "isogclr": lambda: tt.iSogCLR(N, 1.0, 0.8, tau_init=0.1),
    "adam": lambda: tt.FastCLIP(N, "v2", 0.8),
    "nuclr": lambda: tt.NUCLR(N, 0.1, 0.8),
    "dcl": lambda: tt.DCL(tt.Individual(N, 1.0, tau_init=0.1)),
    "equalized": lambda: tt.InfoNCE(tt.ClusterShift(range(1, N + 1), 0.1, 0.3), force="equalized"),
    "margin": lambda: tt.MaxMargin(0.2, force="equalized"),
    "uncertain": lambda: tt.InfoNCE(tt.TaU(4, 0.1, 1.0), force="equalized"),
}


def batches(number):
    generator = torch.Generator().manual_seed(0)
    return [tuple(torch.randn(2, N, 4, generator=generator)) for _ in range(number)]


def trained(make, *, spoilt):
    """The loss after two steps of two batches each, with a refused one in each."""
    torch.manual_seed(0)
    loss_fn = make()
    good = batches(4)
    for at, (x, y) in enumerate(good):
        loss_fn(x, y, torch.arange(N))
        if spoilt:
            bad = x.clone()
            bad[at] = float("nan")
            with pytest.raises(tt.NonFiniteLossError):
                loss_fn(bad, y, torch.arange(N))
        if at % 2:
            loss_fn.step()
    return loss_fn


@pytest.mark.parametrize("name", LOSSES)
def test_a_refused_batch_leaves_no_note(name):
    kept = trained(LOSSES[name], spoilt=False).state_dict()
    found = trained(LOSSES[name], spoilt=True).state_dict()
    fresh = LOSSES[name]().state_dict()
    assert any(not torch.equal(kept[key], fresh[key]) for key in kept if not key.endswith("_step"))
    for key, value in kept.items():
        assert torch.equal(found[key], value), key

"""Anchors weighted by the size of their class."""

import pytest
import torch

from tauten.training import Config, specs
from tauten.training.build import build_loss

LABELS = ["sea"] * 9 + ["owl"] * 4 + ["oak"]
COUNTS = torch.tensor([9] * 9 + [4] * 4 + [1])
POWER = {"inverse_fourth_root": 0.25, "inverse_root": 0.5, "inverse_count": 1.0}


def loss_of(weight, family="infonce", kind="constant", counts=COUNTS, **control):
    config = Config(
        control=specs.control(kind, **({"rho": 2.0} if kind == "individual" else {}), **control),
        loss=specs.loss(family, weight=weight),
    )
    return build_loss(config, len(LABELS), counts, 10, LABELS)


@pytest.mark.parametrize("weight", POWER)
def test_weights_fall_with_class_size_and_have_mean_one(weight):
    expected = [n ** -POWER[weight] for n in COUNTS.tolist()]
    middle = sum(expected) / len(expected)
    found = loss_of(weight).weight.at(torch.arange(len(LABELS)))
    assert found.tolist() == pytest.approx([w / middle for w in expected], rel=1e-5)


@pytest.mark.parametrize(
    ("family", "kind"),
    [("infonce", "anneal"), ("dcl", "constant"), ("maxmargin", "constant"), ("infonce", "mmts")],
)
def test_the_loss_is_the_weighted_mean(family, kind):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(14, 5, generator=generator) for _ in "xy")
    index = torch.arange(14)
    plain, weighted = (loss_of(w, family, kind) for w in ("none", "inverse_root"))
    plain.reduction = "none"
    each = plain(x, y, index=index)
    weights = weighted.weight.at(index)
    assert weighted(x, y, index=index).item() == pytest.approx((each * weights).mean().item())


def test_every_class_counts_the_same_by_inverse_count():
    weights = loss_of("inverse_count").weight.at(torch.arange(14))
    sums = [float(weights[COUNTS.eq(n)].sum()) for n in (9, 4, 1)]
    assert sums == pytest.approx([14 / 3] * 3, rel=1e-5)


def test_where_there_are_no_sizes_or_no_weights():
    with pytest.raises(ValueError, match=r"set data\.label"):
        loss_of("inverse_root", counts=None)
    with pytest.raises(ValueError, match="fastclip has no loss.weight"):
        loss_of("inverse_root", "fastclip", "learnable")
    assert loss_of("inverse_root", "isogclr", "individual").weight is not None

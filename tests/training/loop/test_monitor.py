"""τ by decile of the class count, its rank correlation, and forces by group."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from tauten import ClusterShift, DySTreSS, InfoNCE, forces
from tauten.evaluation.temperatures import TauProbe, count_deciles
from tauten.training.tasks.module import ContrastiveModule

COUNTS = torch.tensor([5, 1, 1, 1, 2, 5, 5, 5, 5, 9])
GROUPS = ["mid", "tail", "tail", "tail", "tail", "mid", "mid", "mid", "mid", "head"]
SHIFT = (0.02, 0.1)  # 0.01 for each count more


def probe(control, groups=GROUPS, counts=COUNTS):
    return TauProbe(InfoNCE(control), groups, counts, 10)


def test_one_count_is_in_one_decile():
    # places 0-2, 3, 4-8, 9 of 10, with the middles 1, 3, 6, 9
    assert count_deciles(COUNTS).tolist() == [6, 1, 1, 1, 3, 6, 6, 6, 6, 9]


def test_different_counts_fill_deciles_evenly():
    counts = torch.randperm(40, generator=torch.Generator().manual_seed(0)) + 1
    assert count_deciles(counts).tolist() == [(int(c) - 1) // 4 for c in counts]


@pytest.mark.parametrize("size", [1, 7, 23])
def test_deciles_are_those_of_the_middle_place(size):
    counts = torch.randint(1, 6, (size,), generator=torch.Generator().manual_seed(size))
    ordered = sorted(counts.tolist())
    for count, decile in zip(counts.tolist(), count_deciles(counts).tolist(), strict=True):
        places = [k for k, other in enumerate(ordered) if other == count]
        assert decile == int(10 * (sum(places) / len(places) + 0.5) / size)


def test_summary_of_all_samples():
    found = probe(ClusterShift(COUNTS, *SHIFT)).summary()
    values = {1: 0.02, 3: 0.03, 6: 0.06, 9: 0.1}
    deciles = {key: value for key, value in found.items() if "decile" in key}
    assert deciles == pytest.approx({f"tau/decile/{k}": v for k, v in values.items()})
    assert found["tau/spearman"] == pytest.approx(1)
    assert found["tau/mean"] == pytest.approx((3 * 0.02 + 0.03 + 5 * 0.06 + 0.1) / 10)
    assert found["tau/tail"] == pytest.approx((3 * 0.02 + 0.03) / 4)
    assert (found["tau/tail/low"], found["tau/tail/high"]) == pytest.approx((0.02, 0.03))


def test_rank_correlation_is_spearmans():
    tau = torch.tensor([0.1, 0.3, 0.2, 0.2, 0.5, 0.1, 0.4, 0.3, 0.2, 0.1])
    shift = ClusterShift((1000 * tau).long(), 0.1, 0.5)
    expected = spearmanr(tau.numpy(), COUNTS.numpy()).statistic
    assert probe(shift).summary()["tau/spearman"] == pytest.approx(expected, abs=1e-12)


def test_no_rank_correlation_with_what_is_the_same_for_all():
    constant = probe(0.1).summary()
    assert "tau/spearman" not in constant
    assert constant["tau/decile/6"] == pytest.approx(0.1)
    equal = torch.full((10,), 4)
    assert "tau/spearman" not in probe(ClusterShift(COUNTS, *SHIFT), counts=equal).summary()


def test_without_classes_there_are_no_deciles():
    found = probe(ClusterShift(COUNTS, *SHIFT), None, None).summary()
    assert set(found) == {"tau/mean", "tau/min", "tau/max"}


def of_a_batch(index, values):
    """A loss whose values exist for its last batch only."""
    last = (torch.tensor(index), torch.tensor(values))
    return SimpleNamespace(strength=SimpleNamespace(needs_batch=True), last_tau=last)


def test_values_of_the_last_batch():
    loss_fn = of_a_batch([9, 1, 0, 3], [0.1, 0.3, 0.2, 0.5])
    found = TauProbe(loss_fn, GROUPS, COUNTS, 10)
    summary = found.summary()
    assert summary["tau/mean"] == pytest.approx(1.1 / 4)
    assert summary["tau/tail"] == pytest.approx(0.4)
    assert summary["tau/head/high"] == pytest.approx(0.1)
    deciles = {key[-1]: value for key, value in summary.items() if "decile" in key}
    assert deciles == pytest.approx({"1": 0.4, "6": 0.2, "9": 0.1})
    # counts 9, 1, 5, 1 have the ranks 4, 1.5, 3, 1.5
    assert summary["tau/spearman"] == pytest.approx(
        spearmanr([0.1, 0.3, 0.2, 0.5], [9, 1, 5, 1]).statistic
    )
    assert found.values().shape == (0,)


def test_a_group_or_a_decile_that_is_not_in_the_batch_is_left_out():
    summary = TauProbe(of_a_batch([1, 2], [0.1, 0.2]), GROUPS, COUNTS, 10).summary()
    assert set(summary) == {
        "tau/mean", "tau/min", "tau/max", "tau/tail", "tau/tail/low", "tau/tail/high",
        "tau/decile/1",
    }  # fmt: skip


def test_a_temperature_by_similarity_is_that_of_the_batch():
    loss_fn = InfoNCE(DySTreSS(0.1, 0.2))
    x, y = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss_fn(x, y, torch.tensor([0, 9]))  # cosines of the pairs: 1 and 0
    found = TauProbe(loss_fn, GROUPS, COUNTS, 10).summary()
    assert found["tau/decile/6"] == pytest.approx(0.2)
    assert found["tau/decile/9"] == pytest.approx(0.1)


# ---- forces


class Given(nn.Module):
    """Towers whose embeddings are their inputs."""

    def forward(self, images, texts):
        return images, texts


def module_after(rows, index, *, mask=True, same=None):
    draw = torch.Generator().manual_seed(rows)
    x, y = (torch.randn(rows, 6, generator=draw) for _ in "xy")
    module = ContrastiveModule(Given(), InfoNCE(0.2), mask)
    ids = torch.arange(rows)
    module(x.requires_grad_(), y, index, same or (ids, ids))
    return module, x.detach(), y


def test_force_per_anchor_by_group():
    index = torch.tensor([4, 0, 9, 1, 5, 6])
    module, x, y = module_after(6, index)
    found = module.forces(GROUPS)
    each = forces(module.loss_fn, x, y, index)
    rows = {"tail": [0, 3], "mid": [1, 4, 5], "head": [2]}
    expected = {
        f"force/{kind}/{name}": float(getattr(each, kind)[members].mean())
        for kind in ("attraction", "repulsion")
        for name, members in rows.items()
    }
    assert found == pytest.approx(expected)
    assert min(found.values()) > 0


def test_a_group_without_anchors_has_no_force():
    module, *_ = module_after(2, torch.tensor([0, 5]))
    found = module.forces(GROUPS)
    assert set(found) == {"force/attraction/mid", "force/repulsion/mid"}


def test_force_without_groups():
    index = torch.arange(5)
    module, x, y = module_after(5, index)
    each = forces(module.loss_fn, x, y, index)
    assert module.forces(None) == pytest.approx(
        {
            "force/attraction/all": float(each.attraction.mean()),
            "force/repulsion/all": float(each.repulsion.mean()),
        }
    )


def test_force_of_a_large_batch_is_that_of_its_first_pairs():
    index = torch.arange(1030)
    module, x, y = module_after(1030, index)
    each = forces(module.loss_fn, x[:1024], y[:1024], index[:1024])
    found = module.forces(None)
    assert found["force/repulsion/all"] == pytest.approx(float(each.repulsion.mean()))


def test_masked_duplicates_repel_nobody():
    twice = torch.tensor([0, 0, 1, 2])
    index = torch.arange(4)
    found = {
        mask: module_after(4, index, mask=mask, same=(twice,))[0].forces(None)
        for mask in (True, False)
    }
    module, x, y = module_after(4, index)
    for mask, same in ((True, (twice,)), (False, ())):
        each = forces(module.loss_fn, x, y, index, same=same)
        expected = float(each.repulsion.mean())
        assert found[mask]["force/repulsion/all"] == pytest.approx(expected)
    assert found[True] != found[False]


def test_only_training_batches_are_kept():
    module, x, _ = module_after(3, torch.arange(3))
    kept = module.last_batch
    assert not kept.x.requires_grad
    assert torch.equal(kept.x, x)
    module.eval()(x + 1, x, torch.arange(3), ())
    assert module.last_batch is kept

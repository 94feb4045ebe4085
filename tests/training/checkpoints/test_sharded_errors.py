"""Sharded checkpoints on one process: what is whole, what is refused, what is left as it was."""

import json

import pytest
import torch
from torch import nn

import tauten as tt
from tauten.training import checkpoints
from tauten.training.checkpoints.sharded import load_sharded, save_sharded

COUNTS = [9, 3, 5, 1]


class Model(nn.Module):
    """A tower, a loss with tables, and a parameter that has no gradient."""

    def __init__(self, samples=4, counts=COUNTS, width=3):
        super().__init__()
        self.tower = nn.Linear(2, width)
        tau = tt.mmts(counts, 0.1, (0.1, 0.3), 7) if counts else 0.2
        self.loss_fn = tt.SogCLR(samples, tau, 0.6)
        self.unused = nn.Parameter(torch.zeros(3))
        self.norm = nn.BatchNorm1d(width)

    def forward(self, a, ids):
        x = self.norm(self.tower(a))
        return self.loss_fn(x, x.flip(1), ids)


def build(seed=0, optimizer=torch.optim.AdamW, **sizes):
    torch.manual_seed(seed)
    model = Model(**sizes)
    return model, optimizer(model.parameters(), lr=0.1)


def train(model, optimizer, seed=0, steps=2):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.randperm(4, generator=generator)[:3]
        optimizer.zero_grad()
        model(torch.randn(3, 2, generator=generator), ids).backward()
        optimizer.step()
        model.loss_fn.step()


def trained(seed=0, **sizes):
    model, optimizer = build(seed, **sizes)
    train(model, optimizer, seed)
    return model, optimizer


def bits(model, optimizer):
    state = {**model.state_dict()}
    for at, values in optimizer.state_dict()["state"].items():
        state |= {f"{at}/{key}": torch.as_tensor(value) for key, value in values.items()}
    return {name: value.clone() for name, value in state.items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


def test_one_process_saves_and_loads_without_a_process_group(tmp_path, recwarn):
    model, optimizer = trained()
    extra = {"steps": 2, "random": torch.get_rng_state(), "of": [(1, "a"), None]}
    save_sharded(tmp_path / "last", model, optimizer, extra)
    other, other_optimizer = build(seed=1)
    found = load_sharded(str(tmp_path / "last"), other, other_optimizer)
    assert torch.equal(found.pop("random"), extra.pop("random"))
    assert found == extra
    assert_equal(bits(other, other_optimizer), bits(model, optimizer))
    train(model, optimizer, seed=5)
    train(other, other_optimizer, seed=5)
    assert_equal(bits(other, other_optimizer), bits(model, optimizer))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]
    assert [str(w.message) for w in recwarn if "distributed" in str(w.message)] == []


class Counting(torch.optim.SGD):
    """With a state that is no tensor."""

    def step(self):
        super().step()
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["count"] = state.get("count", 0) + 1


@pytest.mark.parametrize(
    "optimizer",
    [
        Counting,
        lambda p, lr: torch.optim.SGD(p, lr=lr),
        lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
        lambda p, lr: torch.optim.AdamW(p, lr=lr, fused=True),
        torch.optim.Adafactor,
    ],
)
def test_every_optimiser_goes_on_with_the_same_bits(tmp_path, optimizer):
    model, first = build(optimizer=optimizer)
    train(model, first)
    save_sharded(tmp_path / "last", model, first)
    other, second = build(seed=1, optimizer=optimizer)
    train(other, second, seed=3, steps=1)
    load_sharded(tmp_path / "last", other, second)
    for each in ((model, first), (other, second)):
        train(*each, seed=5)
    assert_equal(bits(other, second), bits(model, first))


def test_an_optimiser_that_has_not_stepped_is_saved_as_it_is(tmp_path):
    """And is given no state by being saved or loaded."""
    model, optimizer = build()
    save_sharded(tmp_path / "start", model, optimizer)
    other, second = trained(seed=1)
    load_sharded(tmp_path / "start", other, second)
    assert optimizer.state_dict()["state"] == second.state_dict()["state"] == {}


def test_the_module_alone_is_loaded_and_the_optimisers_state_left_out(tmp_path):
    model, optimizer = trained()
    save_sharded(tmp_path / "last", model, optimizer)
    other, _ = build(seed=1)
    assert load_sharded(tmp_path / "last", other) == {}
    assert_equal(dict(other.state_dict()), dict(model.state_dict()))


def test_a_growing_table_takes_the_size_that_was_saved(tmp_path):
    model, _ = build(samples=None, counts=None)
    x = torch.eye(3)
    model.loss_fn(x, x, torch.tensor([1, 70, 3]))
    model.loss_fn.step()
    save_sharded(tmp_path / "last", model)
    for ids in ([0, 1], [0, 400]):
        other, _ = build(seed=1, samples=None, counts=None)
        other.loss_fn(x[:2], x[:2], torch.tensor(ids))
        other.loss_fn.step()
        load_sharded(tmp_path / "last", other)
        assert len(other.loss_fn.tables.of("x2y")) == 71
        assert_equal(dict(other.state_dict()), dict(model.state_dict()))


def test_what_was_prefetched_before_is_not_read_after(tmp_path):
    model, _ = trained()
    save_sharded(tmp_path / "last", model)
    other, _ = build(seed=1)
    ids = torch.arange(4)
    other.loss_fn.prefetch(ids)
    load_sharded(tmp_path / "last", other)
    table, expected = (each.loss_fn.tables.of("x2y").read(ids) for each in (other, model))
    assert all(torch.equal(table[name], column) for name, column in expected.items())
    assert other.loss_fn.strength.steps == model.loss_fn.strength.steps == 2


def test_modules_learn_of_loaded_weights(tmp_path):
    model, _ = trained()
    save_sharded(tmp_path / "last", model)
    other, _ = build(seed=1)
    sums = []
    other.tower.register_load_state_dict_post_hook(lambda m, _: sums.append(m.weight.sum().item()))
    load_sharded(tmp_path / "last", other)
    assert sums[-1] == model.tower.weight.sum().item()


def test_names_are_those_of_the_module_in_any_wrapper(tmp_path):
    """Compiled as a whole or in part; DDP is tested with processes."""
    model, _ = trained()
    parts = nn.ModuleDict({"tower": torch.compile(model.tower), "loss_fn": model.loss_fn})
    save_sharded(tmp_path / "parts", torch.compile(parts), optimizer=None)
    plain = nn.ModuleDict({"tower": nn.Linear(2, 3), "loss_fn": build(seed=1)[0].loss_fn})
    load_sharded(tmp_path / "parts", plain)
    assert torch.equal(plain["tower"].weight, model.tower.weight)


# ---- whole or not there


def test_a_save_that_is_cut_leaves_the_one_before(tmp_path, monkeypatch):
    model, optimizer = trained()
    save_sharded(tmp_path / "last", model, optimizer, {"steps": 2})
    train(model, optimizer)
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "seal", lambda *_: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(OSError, match="cut"):
            save_sharded(tmp_path / "last", model, optimizer, {"steps": 4})
    assert load_sharded(tmp_path / "last", *build()) == {"steps": 2}
    save_sharded(tmp_path / "last", model, optimizer, {"steps": 4})
    assert load_sharded(tmp_path / "last", *build()) == {"steps": 4}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "plain.pt"])
def test_a_truncated_or_missing_file_is_named(tmp_path, name):
    model, optimizer = trained()
    save_sharded(tmp_path / "last", model, optimizer)
    path = tmp_path / "last" / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-7])
    assert checkpoints.find(tmp_path) == []
    before = bits(model, optimizer)
    with pytest.raises(ValueError, match=f"{name} has {size - 7} bytes instead of {size}"):
        load_sharded(tmp_path / "last", model, optimizer)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load_sharded(tmp_path / "last", model, optimizer)
    assert_equal(bits(model, optimizer), before)


@pytest.mark.parametrize("marker", [None, "{"])
def test_a_folder_without_a_marker_is_not_loaded(tmp_path, marker):
    model, _ = build()
    save_sharded(tmp_path / "last", model)
    path = tmp_path / "last" / checkpoints.MARKER
    path.unlink() if marker is None else path.write_text(marker)
    with pytest.raises(ValueError, match=r"no whole checkpoint: no readable complete\.json"):
        load_sharded(tmp_path / "last", model)


def test_bytes_damaged_within_a_file_are_an_error(tmp_path):
    model, _ = build()
    save_sharded(tmp_path / "last", model)
    path = tmp_path / "last" / "__0_0.distcp"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ValueError, match="__0_0.distcp has another content than was written"):
        load_sharded(tmp_path / "last", model)
    without_sums(tmp_path / "last")
    with pytest.raises(ValueError, match=r"last/__0_0\.distcp is damaged: .*; load another ch"):
        load_sharded(tmp_path / "last", model)


@pytest.mark.parametrize("damage", ["zeros", "half", "empty", "bits"])
def test_a_damaged_file_whose_sum_fits_is_named(tmp_path, damage):
    model, _ = build()
    save_sharded(tmp_path / "last", model)
    path = tmp_path / "last" / "__0_0.distcp"
    content = path.read_bytes()
    path.write_bytes({
        "zeros": b"\0" * len(content),
        "half": content[: len(content) // 2],
        "empty": b"",
        "bits": bytes(b ^ 255 if k % 50 == 0 else b for k, b in enumerate(content)),
    }[damage])  # fmt: skip
    checkpoints.seal(tmp_path / "last")
    with pytest.raises(ValueError, match=r"last/__0_0\.distcp is damaged: ") as caught:
        load_sharded(tmp_path / "last", model)
    assert "\n" not in str(caught.value)


def without_sums(folder):
    """Make the marker one of an earlier version, which knew sizes only."""
    path = folder / checkpoints.MARKER
    marker = json.loads(path.read_text())
    del marker["sha256"]
    path.write_text(json.dumps(marker))


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="mine holds something that is no checkpoint"):
        save_sharded(tmp_path / "mine", build()[0])
    (tmp_path / "mine" / "thesis.tex").unlink()
    save_sharded(tmp_path / "mine", build()[0])


# ---- refused


def wide():
    return build(width=4)


def added():
    model, optimizer = build()
    model.extra = nn.Linear(2, 2)
    del model.unused
    return model, optimizer


def double():
    model, optimizer = build()
    return model.double(), optimizer


def regrouped():
    model, _ = build()
    first, *others = model.parameters()
    return model, torch.optim.AdamW([{"params": [first]}, {"params": others}])


def larger_tables():
    return build(samples=5)


def other_counts():
    return build(counts=[9, 3, 5, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_counts, "4 samples there, 4 here, or other counts"),
        (larger_tables, "saved for a data set of 4 samples, the table has 5"),
        (wide, r"tower.weight was saved with shape \(3, 2\), the module has \(4, 2\)"),
        (
            added,
            r"2 names are not in it \(extra.bias, extra.weight\), 1 are in it alone \(unused\)",
        ),
        (double, "was saved as torch.float32, the module has torch.float64"),
        (regrouped, r"1 groups of \[5\] parameters, this one has 2 of \[1, 4\]"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_and_changes_nothing(tmp_path, make, message):
    save_sharded(tmp_path / "last", *trained())
    model, optimizer = make()
    model.loss_fn.step()
    before = bits(model, optimizer)
    with pytest.raises(ValueError, match=message):
        load_sharded(tmp_path / "last", model, optimizer)
    assert_equal(bits(model, optimizer), before)


def test_a_growing_table_keeps_its_rows_when_one_of_fixed_size_refuses(tmp_path):
    columns = {"a": 0.0}
    tables = nn.ModuleList([tt.SampleTable(None, columns), tt.SampleTable(4, columns)])
    save_sharded(tmp_path / "last", tables)
    other = nn.ModuleList([tt.SampleTable(None, columns), tt.SampleTable(5, columns)])
    other[0].write(torch.tensor([6]), {"a": torch.tensor([3.0])})
    with pytest.raises(ValueError, match="data set of 4 samples, the table has 5"):
        load_sharded(tmp_path / "last", other)
    assert other[0].read(torch.tensor([6]))["a"].tolist() == [3.0]


def test_a_missing_state_of_the_optimiser_is_said(tmp_path):
    model, optimizer = trained()
    save_sharded(tmp_path / "last", model)
    with pytest.raises(ValueError, match="holds no optimiser's state"):
        load_sharded(tmp_path / "last", model, optimizer)


class Anything:
    pass


def test_an_extra_that_could_not_be_loaded_is_refused_before_anything_is_written(tmp_path):
    model, _ = build()
    save_sharded(tmp_path / "last", model, extra={"steps": 1})
    with pytest.raises(ValueError, match="extra and the optimiser's options must be tensors"):
        save_sharded(tmp_path / "last", model, extra={"a": Anything()})
    assert load_sharded(tmp_path / "last", model) == {"steps": 1}


def test_parameters_of_another_module_are_refused(tmp_path):
    model, _ = build()
    _, stray = build()
    with pytest.raises(ValueError, match="5 of 5 parameters of the optimiser are not the module's"):
        save_sharded(tmp_path / "last", model, stray)

"""Tables of per-sample state, on one process and on two."""

import subprocess
import sys

import pytest
import torch

import tauten as tt
from tauten.state import Pending, mean_by_sample

WORKER = """
import sys, torch, torch.distributed as dist, tauten as tt
from torch.nn import functional as F
rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
loss_fn = tt.iSogCLR(10, rho=0.5, gamma=0.5, tau_init=0.1)
for step in range(3):
    generator = torch.Generator().manual_seed(step)
    shards = []
    for part in range(2):
        x, y = (F.normalize(torch.randn(5, 4, generator=generator), dim=1) for _ in range(2))
        ids = torch.randint(0, 10, (5,), generator=generator)
        shards.append((x, y, ids))
    for part, (x, y, ids) in enumerate(shards):
        if world == 1 or part == rank:
            loss_fn(x, y, ids)
    loss_fn.step()
torch.save(loss_fn.state_dict(), out)
if world > 1:
    dist.destroy_process_group()
"""


def run(tmp_path, world):
    outs = [tmp_path / f"{world}-{rank}.pt" for rank in range(world)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(world), str(tmp_path / "store"), str(out)]
        )
        for rank, out in enumerate(outs)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * world
    return [torch.load(out) for out in outs]


def test_two_processes_write_the_tables_of_one_bit_for_bit(tmp_path):
    """Ids repeat within a shard and across shards."""
    (alone,) = run(tmp_path, 1)
    first, second = run(tmp_path, 2)
    for name, value in alone.items():
        assert torch.equal(first[name], value), name
        assert torch.equal(second[name], value), name


def test_a_fixed_table_reads_what_was_written_and_initial_values_elsewhere():
    table = tt.SampleTable(5, {"a": 1.0, "b": -2.0})
    table.write(torch.tensor([3, 0]), {"b": torch.tensor([7.0, 8.0])})
    rows = table.read(torch.tensor([0, 1, 3]))
    assert rows["a"].tolist() == [1.0, 1.0, 1.0]
    assert rows["b"].tolist() == [8.0, -2.0, 7.0]
    assert table.seen(torch.tensor([0, 1, 3])).tolist() == [True, False, True]


def test_a_growing_table_grows_and_loads_any_size():
    table = tt.SampleTable(None, {"a": 0.5})
    assert table.read(torch.tensor([9]))["a"].tolist() == [0.5]
    assert not table.seen(torch.tensor([9])).any()
    table.write(torch.tensor([9]), {"a": torch.tensor([2.0])})
    assert len(table) == 10
    assert table.read(torch.tensor([9, 30]))["a"].tolist() == [2.0, 0.5]
    table.write(torch.tensor([10]), {"a": torch.tensor([3.0])})
    assert len(table) == 20
    fresh = tt.SampleTable(None, {"a": 0.5})
    fresh.load_state_dict(table.state_dict())
    assert fresh.read(torch.tensor([9, 10, 11]))["a"].tolist() == [2.0, 3.0, 0.5]
    assert fresh.seen(torch.tensor([9, 11])).tolist() == [True, False]


def test_means_by_sample_do_not_depend_on_the_order():
    ids = torch.tensor([4, 1, 4, 4, 1])
    values = torch.tensor([[0.1], [1.0], [0.7], [1e-8], [3.0]])
    distinct, mean = mean_by_sample(ids, values)
    assert distinct.tolist() == [1, 4]
    torch.testing.assert_close(mean[:, 0], torch.tensor([2.0, 0.26666667]).double())
    for order in ([4, 3, 2, 1, 0], [2, 0, 3, 4, 1]):
        again = mean_by_sample(ids[order], values[order])
        assert torch.equal(again[1], mean)


def test_pending_is_empty_after_it_was_taken():
    pending = Pending()
    assert pending.take() is None
    pending.add(torch.tensor([1]), torch.tensor([2.0]))
    pending.add(torch.tensor([0]), torch.tensor([3.0]))
    ids, values = pending.take()
    assert ids.tolist() == [1, 0]
    assert values.tolist() == [[2.0], [3.0]]
    assert pending.take() is None


def test_a_forgotten_step_is_noticed():
    loss_fn = tt.SogCLR(4)
    x = torch.eye(4)
    for _ in range(1000):
        loss_fn(x, x, torch.arange(4))
    with pytest.warns(UserWarning, match="1000 training batches without a step"):
        loss_fn(x, x, torch.arange(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.SampleTable(0, {"a": 0.0}), "at least 1 sample, got 0"),
        (lambda: tt.SampleTable(3, {}), "at least one column"),
        (lambda: tt.SampleTable(3, {"a": 0.0}).read(torch.tensor([3, -1])), "ids: -1, 3"),
        (
            lambda: tt.SampleTable(3, {"a": 0.0}).load_state_dict(
                tt.SampleTable(4, {"a": 0.0}).state_dict()
            ),
            "saved for a data set of 4 samples, the table has 3",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Tables of per-sample state, on one process and on two."""

import copy
import functools
import io
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import tauten as tt
from forks import run_all
from tauten import state
from tauten.observations import Pending, Samples, mean_by_sample

COLUMNS = {"a": 1.0, "b": -2.0}
BIG = 5000

WORKER = """
import sys, torch, torch.distributed as dist, tauten as tt
from torch.nn import functional as F
rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
loss_fn = tt.iSogCLR(10, rho=0.5, gamma=0.5, tau_init=0.1, ranks="local")
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
    run_all(WORKER, [(rank, world, tmp_path / "store", out) for rank, out in enumerate(outs)])
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


def written(size, device=None):
    """Half of the samples 0 to 5 written, sample i with (i, 10 i)."""
    table = tt.SampleTable(size, COLUMNS, device=device)
    ids = torch.tensor([5, 1, 3])
    table.write(ids, {"a": ids.float(), "b": 10 * ids.float()})
    return table


def rows_of(table, ids):
    return {
        **{name: column.tolist() for name, column in table.read(ids).items()},
        "seen": table.seen(ids).tolist(),
    }


class Owner(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.layer, self.table = nn.Linear(2, 2), table


@pytest.mark.parametrize("size", [None, 6])
def test_a_table_placed_on_the_cpu_stays_when_its_module_moves(size):
    owner = Owner(written(size, device="cpu")).to("meta")
    assert owner.layer.weight.device.type == "meta"
    assert owner.table.values.device.type == "cpu"
    assert owner.table.visits.device.type == "cpu"
    ids = torch.tensor([3, 0])
    assert rows_of(owner.table, ids) == {"a": [3.0, 1.0], "b": [30.0, -2.0], "seen": [True, False]}
    owner.table.write(torch.tensor([0]), {"a": torch.tensor([4.0])})
    assert rows_of(owner.table, ids)["a"] == [3.0, 4.0]
    assert owner.table.visits.tolist()[:6] == [1, 1, 0, 1, 0, 1]


def test_a_table_placed_on_the_cpu_stays_when_its_module_goes_to_a_gpu():
    """On a fake GPU, where tensors have a device and no data."""
    with FakeTensorMode():
        tables = nn.ModuleList(tt.SampleTable(6, COLUMNS, device=d) for d in (None, "cpu"))
        tables.to("cuda:0", torch.float64)
    for table, kind in zip(tables, ("cuda", "cpu"), strict=True):
        assert table.values.device.type == table.visits.device.type == kind
        assert table.values.dtype == torch.float64


def test_a_table_without_a_place_moves_with_its_module():
    owner = Owner(written(6)).to("meta")
    assert owner.table.values.device.type == owner.table.visits.device.type == "meta"


def test_a_placed_table_is_real_in_a_module_built_on_another_device():
    with torch.device("meta"):
        owner = Owner(tt.SampleTable(4, COLUMNS, device="cpu"))
    owner.to_empty(device="meta")
    assert rows_of(owner.table, torch.tensor([2])) == {"a": [1.0], "b": [-2.0], "seen": [False]}


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (nn.Module.half, torch.float32),
        (nn.Module.bfloat16, torch.float32),
        (lambda m: m.to(torch.bfloat16), torch.float32),
        (nn.Module.double, torch.float64),
        (lambda m: m.to(torch.float64), torch.float64),
        (lambda m: m.type(torch.float64), torch.float64),
    ],
)
def test_values_become_float64_but_no_less_than_float32_and_visits_stay_integers(
    device, convert, dtype
):
    table = convert(written(None, device))
    assert table.values.dtype == dtype
    assert table.visits.dtype == torch.int32
    ids = torch.tensor([5, 0, 30])
    table.write(torch.tensor([30]), {"a": torch.tensor([7.0])})
    assert table.values.dtype == dtype
    expected = {"a": [5.0, 1.0, 7.0], "b": [50.0, -2.0, -2.0], "seen": [True, False, True]}
    assert rows_of(table, ids) == expected


def test_a_placed_table_is_converted_without_its_rows_going_to_the_device():
    """The device is asked for the type of an empty tensor only."""
    table, sizes = written(6, "cpu"), []

    def to_meta(tensor):
        sizes.append(tensor.numel())
        return tensor.to("meta", torch.float64)

    table._apply(to_meta)
    assert set(sizes) == {0}
    assert table.values.dtype == torch.float64
    assert table.visits.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("size", [None, 6])
def test_a_placed_table_comes_back_from_a_saved_state(size, assign):
    saved, file = written(size, "cpu"), io.BytesIO()
    assert list(saved.state_dict()) == ["values", "visits"]
    torch.save(saved.state_dict(), file)
    file.seek(0)
    fresh = Owner(tt.SampleTable(size, COLUMNS, device="cpu"))
    fresh.table.load_state_dict(torch.load(file), assign=assign)
    fresh.to("meta")
    assert fresh.table.values.shape == (len(saved), 2)
    assert fresh.table.visits.dtype == torch.int32
    ids = torch.arange(6)
    assert rows_of(fresh.table, ids) == rows_of(saved, ids)


def test_a_placed_table_stays_when_a_state_of_another_device_is_assigned():
    table, saved = tt.SampleTable(6, COLUMNS, device="cpu"), written(6).state_dict()
    with FakeTensorMode(allow_non_fake_inputs=True):
        elsewhere = {name: tensor.to("cuda:0") for name, tensor in saved.items()}
        table.load_state_dict(elsewhere, assign=True)
        assert table.values.device == table.visits.device == torch.device("cpu")


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("size", [None, 20])
def test_what_was_prefetched_is_what_is_read(size, device, monkeypatch):
    table, ids = written(size, device), torch.tensor([3, 0, 19, 5])
    expected = rows_of(table, ids)
    table.prefetch(ids)
    monkeypatch.setattr(table, "_rows", None)
    monkeypatch.setattr(table, "_visited", None)
    assert rows_of(table, ids) == rows_of(table, ids.clone()) == expected
    assert rows_of(copy.deepcopy(table), ids) == expected


def test_a_prefetch_of_other_samples_is_not_used():
    table = written(6)
    for ids in ([1, 3], [3, 1, 0], [], [3]):
        table.prefetch(torch.tensor([3, 1]))
        read = torch.tensor(ids, dtype=torch.long)
        assert rows_of(table, read) == rows_of(written(6), read)


def test_a_prefetch_to_another_device_is_not_used_here():
    table, ids = written(6), torch.tensor([3, 1])
    table.prefetch(ids, to="meta")
    assert rows_of(table, ids) == rows_of(written(6), ids)


def test_ids_changed_in_place_after_a_prefetch_are_other_ids():
    table, ids = written(6), torch.tensor([3, 1])
    table.prefetch(ids)
    ids[0] = 5
    assert table.read(ids)["a"].tolist() == [5.0, 1.0]


def test_rows_changed_in_place_by_the_reader_do_not_change_the_prefetched():
    table, ids = written(6), torch.tensor([3, 1])
    table.prefetch(ids)
    table.read(ids)["a"].zero_()
    table.seen(ids).zero_()
    assert rows_of(table, ids) == rows_of(written(6), ids)


@pytest.mark.parametrize("size", [None, 6])
def test_no_stale_row_is_read_after_a_write(size):
    table, ids = written(size), torch.tensor([3, 0, 2])
    table.prefetch(ids)
    table.write(torch.tensor([4, 0]), {"b": torch.tensor([8.0, 9.0])})
    assert rows_of(table, ids) == {
        "a": [3.0, 1.0, 1.0],
        "b": [30.0, 9.0, -2.0],
        "seen": [True, True, False],
    }


def test_a_write_of_other_samples_leaves_the_prefetch_in_use(monkeypatch):
    table, ids = written(6), torch.tensor([3, 0])
    expected = rows_of(table, ids)
    table.prefetch(ids)
    table.write(torch.tensor([1, 5]), {"a": torch.tensor([8.0, 9.0])})
    monkeypatch.setattr(table, "_rows", None)
    assert table.read(ids)["a"].tolist() == expected["a"]


def test_a_growing_table_is_prefetched_across_its_growth():
    table, ids = written(None), torch.tensor([3, 40, 9])
    table.prefetch(ids)
    table.write(torch.tensor([50]), {"a": torch.tensor([8.0])})
    assert rows_of(table, ids)["a"] == [3.0, 1.0, 1.0]
    table.write(torch.tensor([40]), {"a": torch.tensor([6.0])})
    assert rows_of(table, ids)["a"] == [3.0, 6.0, 1.0]
    assert rows_of(table, ids)["seen"] == [True, True, False]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.load_state_dict(tt.SampleTable(6, COLUMNS).state_dict()),
        lambda table: table.double(),
    ],
)
def test_a_loaded_state_and_a_conversion_drop_the_prefetch(change):
    table, plain, ids = written(6), written(6), torch.tensor([3, 1])
    table.prefetch(ids)
    change(table)
    change(plain)
    assert rows_of(table, ids) == rows_of(plain, ids)
    assert table.read(ids)["a"].dtype == plain.values.dtype


def test_random_prefetches_reads_and_writes_agree_with_a_dictionary():
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.randint, 0, 12, (4,), generator=generator)
    table, kept = tt.SampleTable(None, {"a": 0.5}, device="cpu"), {}
    for turn in range(300):
        ids = draw()
        table.prefetch(ids)
        if turn % 3:
            new = draw().unique()
            table.write(new, {"a": new + float(turn)})
            kept.update({i: i + float(turn) for i in new.tolist()})
        assert table.read(ids)["a"].tolist() == [kept.get(i, 0.5) for i in ids.tolist()]
        assert table.seen(ids).tolist() == [i in kept for i in ids.tolist()]


def test_rows_travel_on_a_stream_of_their_own_and_are_waited_for(monkeypatch):
    """The order of calls, on a fake GPU."""
    calls = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            calls.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream):
        calls.append(f"on {stream.name}")
        yield
        calls.append("off")

    def log(tensor, what, result):
        calls.append(f"{what} {tensor.device}")
        return result

    monkeypatch.setattr(torch.cuda, "Stream", lambda index: Stream(f"side {index}"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(f"main {device}"))
    move = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        return log(tensor, f"copy {args[0]} {kwargs} from", move(tensor, *args, **kwargs))

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: log(t, "pin", t))
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda t, s: log(t, f"record {s.name} of", None)
    )
    state.side_stream.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            sent = state.send(torch.ones(3), torch.device("cuda"))
        assert sent.device == torch.device("cuda:0")
        copied = "copy cuda:0 {'non_blocking': True} from cpu"
        assert calls == ["on side 0", "pin cpu", copied, "off"]
        calls.clear()
        state.receive(sent)
        assert calls == ["main cuda:0 waits for side 0", "record main cuda:0 of cuda:0"]
        calls.clear()
        here = torch.ones(3)
        assert state.send(here, torch.device("cpu")) is here
        state.receive(here)
        assert calls == ["copy cpu {} from cpu"]
    finally:
        state.side_stream.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", [None, "cpu"])
def test_rows_prefetched_to_a_gpu_are_those_read(device):
    size, generator = 100_000, torch.Generator().manual_seed(0)
    owner = Owner(tt.SampleTable(size, COLUMNS, device=device)).cuda()
    table = owner.table
    assert table.values.device.type == (device or "cuda")
    plain = tt.SampleTable(size, COLUMNS)
    for turn in range(50):
        ids = torch.randperm(size, generator=generator)[:4096]
        table.prefetch(ids, to="cuda")
        if turn % 2:
            table.write(ids[:9].cuda(), {"b": torch.full((9,), float(turn)).cuda()})
            plain.write(ids[:9], {"b": torch.full((9,), float(turn))})
        found = table.read(ids.cuda())
        assert found["a"].is_cuda
        assert torch.equal(found["b"].cpu(), plain.read(ids)["b"])
        assert torch.equal(table.seen(ids.cuda()).cpu(), plain.seen(ids))


class Large(TorchDispatchMode):
    """Notes each operation that takes or makes BIG numbers or more."""

    def __init__(self):
        super().__init__()
        self.taken, self.made = set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        large = [t for t in args if isinstance(t, torch.Tensor) and t.numel() >= BIG]
        name = func.overloadpacket.__name__
        if large:
            self.taken.add(name)
        elif isinstance(out, torch.Tensor) and out.numel() >= BIG:
            self.made.append((name, out.numel()))
        return out


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("size", [None, BIG])
def test_a_step_touches_its_rows_and_no_more(size, device):
    """Of the whole table only views are taken and rows indexed."""
    table = tt.SampleTable(size, COLUMNS, device=device)
    table.write(torch.tensor([BIG - 1]), {})
    ids, new = torch.tensor([7, 3]), {"a": torch.tensor([1.0, 2.0])}
    with Large() as large:
        table.read(ids)
        table.seen(ids)
        table.prefetch(ids)
        table.read(ids)
        table.write(ids, new)
    assert large.taken <= {"index", "index_select", "index_copy_"}
    assert "index_copy_" in large.taken
    assert large.made == []


def test_observations_cost_their_rows():
    """Ids beyond the number of rows make nothing of their size."""
    pending = Pending()
    with Large() as large:
        ids = torch.tensor([3 * BIG, 2 * BIG, 3 * BIG])
        pending.add(Samples(ids), torch.rand(3), torch.rand(3))
        distinct, _ = mean_by_sample(*pending.take())
    assert distinct.tolist() == [2 * BIG, 3 * BIG]
    assert large.taken == set()
    assert large.made == []


def test_building_a_table_makes_it_once():
    with Large() as large:
        tt.SampleTable(BIG, COLUMNS)
    assert sorted(numbers for _, numbers in large.made) == [BIG, 2 * BIG]


def test_means_by_sample_do_not_depend_on_the_order():
    ids = torch.tensor([4, 1, 4, 4, 1])
    values = torch.tensor([[0.1], [1.0], [0.7], [1e-8], [3.0]])
    distinct, mean = mean_by_sample(Samples(ids), values)
    assert distinct.tolist() == [1, 4]
    torch.testing.assert_close(mean[:, 0], torch.tensor([2.0, 0.26666667]).double())
    for order in ([4, 3, 2, 1, 0], [2, 0, 3, 4, 1]):
        again = mean_by_sample(Samples(ids[order]), values[order])
        assert torch.equal(again[1], mean)


def test_pending_is_empty_after_it_was_taken():
    pending = Pending()
    assert pending.take() is None
    pending.add(Samples(torch.tensor([1])), torch.tensor([2.0]))
    pending.add(Samples(torch.tensor([0])), torch.tensor([3.0]))
    samples, values = pending.take()
    assert samples.ids.tolist() == [1, 0]
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
        (lambda: tt.SampleTable(3, {"a": 0.0}, device="cuda"), r"moves with its module \(None\)"),
        (
            lambda: tt.SampleTable(3, {"a": 0.0}).prefetch(torch.tensor([7, 1])),
            "sample ids: 7; the",
        ),
        (lambda: tt.SampleTable(None, {"a": 0.0}).prefetch(torch.tensor([-4])), "sample ids: -4;"),
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


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.bfloat16])
def test_a_loss_in_a_module_of_low_precision_keeps_learning_in_float32(convert):
    losses = [
        tt.iSogCLR(6, rho=0.5, tau_init=0.2, tau_range=(0.05, 1.0), lr=1e-5),
        tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0), force="equalized"),
        tt.NUCLR(6),
        tt.DCL(tt.mmts([1, 3, 9, 27, 5, 2], 0.02, (0.05, 0.2), 10), force="equalized"),
        tt.InfoNCE(tt.TaU(4, 0.1)),
    ]
    model = nn.ModuleList([nn.Linear(4, 4), *losses])
    before = {name: value.clone() for name, value in model[1:].state_dict().items()}
    convert(model)
    assert model[0].weight.dtype == next(iter(model[0].parameters())).dtype != torch.float32
    after = model[1:].state_dict()
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert torch.equal(after[name], value)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).to(model[0].weight.dtype)
    for loss_fn in losses:
        loss_fn(model[0](x), x, torch.arange(6)).backward()
        loss_fn.step()
    tau = losses[0].tau(torch.arange(6))
    assert tau.dtype == torch.float32
    assert not torch.equal(tau, torch.full((6,), 0.2))


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_refused_state_is_not_loaded_in_part():
    counts, others = [1, 3, 9, 27, 5], [2, 3, 9, 27, 5]
    ids = torch.arange(5)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    mmts = functools.partial(tt.mmts, alpha=0.02, shift=(0.05, 0.2), period=10)
    pairs = [
        (tt.InfoNCE(mmts(counts)), tt.SogCLR(5, mmts(counts)), RuntimeError),
        (tt.SogCLR(None, mmts(counts)), tt.InfoNCE(mmts(counts)), RuntimeError),
        (tt.SogCLR((5, 5), mmts(counts)), tt.SogCLR((5, 6), mmts(counts)), ValueError),
        (tt.SogCLR((5, 5), mmts(counts)), tt.SogCLR((5, 5), mmts(others)), ValueError),
        (
            tt.SogCLR(None, tt.TempNet(4)),
            tt.SogCLR(None, tt.TempNet(4, prototypes=9)),
            RuntimeError,
        ),
    ]
    for mine, saved, error in pairs:
        saved(x, x.flip(0), ids)
        saved.step()
        before = state_of(mine)
        with pytest.raises(error, match="saved"):
            mine.load_state_dict(saved.state_dict())
        assert mine.steps == 0
        if mine.state_dict().keys() != saved.state_dict().keys():
            assert copy.deepcopy(mine).load_state_dict(saved.state_dict(), strict=False)
        after = state_of(mine)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_table_beyond_memory_says_how_large_it_is():
    size = 2**52
    told = r"4,503,599,627,370,496 samples takes 50,331,648\.0 GiB"
    with pytest.raises(MemoryError, match=told):
        tt.SampleTable(size, COLUMNS)
    table = tt.SampleTable(None, COLUMNS)
    with pytest.raises(MemoryError, match=told):
        table.write(torch.tensor([size - 1]), {"a": torch.zeros(1)})
    assert len(table) == len(table.values) == 0


def test_ids_changed_in_place_before_the_step_write_the_rows_of_the_batch():
    torch.manual_seed(0)
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    tables = []
    for reused in (False, True):
        loss_fn, buffer = tt.SogCLR(6, 0.1, gamma=0.5), torch.tensor([4, 0, 2])
        loss_fn(x, y, buffer)
        if reused:
            buffer.copy_(torch.tensor([1, 3, 5]))
        loss_fn.step()
        tables.append(loss_fn.state_dict())
    for name, values in tables[0].items():
        if isinstance(values, torch.Tensor):
            torch.testing.assert_close(tables[1][name], values)

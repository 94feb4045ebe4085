"""Two gloo processes: per-sample state is that of one process, bit for bit."""

import pytest
import torch

from forks import run_all

WORKER = """
import sys, warnings, torch, torch.distributed as dist, tauten as tt
from cases import FURTHER
from survivor import BATCH, DIM, SAMPLES, call, losses
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
warnings.simplefilter("ignore", tt.CompositionWarning)

def shards(step):
    generator = torch.Generator().manual_seed(step)
    for part in range(2):
        x, y = (torch.randn(BATCH, DIM, generator=generator) for _ in range(2))
        ids = torch.randint(0, SAMPLES // 2, (BATCH,), generator=generator)
        assert len(ids.unique()) < BATCH
        yield (part, x, y, ids) if (step, part) != (2, 1) else (part, None, None, None)

def train(mine):
    torch.manual_seed(0)
    # prototypes and gates see the whole batch; tests/parity has them
    runs = {name: loss for name, loss in losses().items() if name.split()[0] not in FURTHER}
    for name, loss_fn in runs.items():
        loss_fn.ranks = "local"
        for module in loss_fn.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for step in range(4):
            for part, x, y, ids in shards(step):
                if x is not None and part in mine:
                    call(name, loss_fn, x, y, ids)
            loss_fn.step()
    return {name: loss_fn.state_dict() for name, loss_fn in runs.items()}

if rank == 0:
    torch.save(train([0, 1]), f"{folder}/alone.pt")
    torch.save(train([0]), f"{folder}/half.pt")
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.save(train([rank]), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Of one process with both shards, of rank 0 and 1 with one each, of one process with one.

    In one of the steps rank 1 has no batch.
    """
    folder = tmp_path_factory.mktemp("ranks")
    run_all(WORKER, [(rank, folder) for rank in range(2)])
    return {name: torch.load(folder / f"{name}.pt") for name in ("alone", "0", "1", "half")}


def unequal(states, kind):
    """The names of the state of that kind on which the three differ, and how much there is."""
    alone, first, second = states["alone"], states["0"], states["1"]
    names = [
        (run, key)
        for run, state in alone.items()
        for key in state
        if kind(key) and not run.endswith(" glate")
    ]
    differ = [
        f"{run}: {key}"
        for run, key in names
        if not torch.equal(first[run][key], alone[run][key])
        or not torch.equal(second[run][key], alone[run][key])
    ]
    return differ, len(names)


def test_tables_and_offsets_are_those_of_one_process(states):
    """Ids repeat within a shard, across shards and over steps.

    Each shard has negatives of its own; a running mean, and a temperature that follows from the
    batch, then is each process's.
    """
    differ, among = unequal(states, lambda key: not key.startswith("running."))
    assert differ == []
    assert among > 300


@pytest.mark.parametrize(
    ("run", "key"),
    [
        ("dcl individual", "strength.tables.y2x.values"),
        ("infonce individual-adam", "strength.tables.x2y.values"),
        ("sogclr tempnet", "tables.x2y.values"),
        ("isogclr", "tables.y2x.values"),
        ("isogclr", "strength.tables.x2y.values"),
        ("grows", "tables.x2y.values"),
        ("two-ids", "tables.y2x.values"),
        ("two-ids-grow", "strength.tables.y2x.visits"),
        ("two-views", "tables.x2y.values"),
        ("nuclr cosine", "offsets.y2x.values"),
        ("two-ids-nuclr", "largest"),
        *((f"fastclip-v{version}", "tables.x2y.values") for version in range(4)),
    ],
)
def test_state_without_the_other_shard_is_another(states, run, key):
    """What one shard alone leaves as it is would prove nothing."""
    assert not torch.equal(states["half"][run][key], states["alone"][run][key])

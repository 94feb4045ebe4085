"""One of two processes: losses with shared columns on its shard, compared with the whole batch.

Run as ``python prototypes_worker.py RANK STORE OUT``.
"""

import json
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import distributed as dist

import tauten as tt
from tauten.candidates import LabelMixer, LabelMixtures, Prototypes, class_means, everybody

CUT, ROWS, DIM = 5, 7, 4
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243, 400], 0.1, 0.5)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2])
CLUSTERS = torch.tensor([4, 0, 4, 2, 0, 4, 2])
SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.3, 0.2], dtype=torch.float64)


def swav(ranks, shard, x, y):
    prototypes = Prototypes(6, DIM).double()
    loss_fn = tt.SwAV(TAU, prototypes, SHARES, ranks=ranks, tile=3).double()
    loss = loss_fn([x, y, x - y], torch.arange(ROWS)[shard])
    return loss, [prototypes.vectors], []


def palm(ranks, shard, x, y):
    loss_fn = tt.PALM(TAU, 3, DIM, 2, SHARES, momentum=0.5, ranks=ranks).double()
    loss = loss_fn(x + y, LABELS[shard], torch.arange(ROWS)[shard])
    loss_fn.step()
    return loss, [], [loss_fn.prototypes.vectors]


def means(ranks, shard, x, y):
    loss_fn = tt.InfoNCE(0.2, directions="x2y", ranks=ranks)
    mean, ids = class_means(y, CLUSTERS[shard], 5)
    return loss_fn(x, mean, labels=(CLUSTERS[shard], ids)), [], []


def frequent(ranks, shard, x, y):
    """Experts against the means of what they get, each process with its share of both."""
    experts = Prototypes(5, DIM).double()
    mean, ids = class_means(x * y, CLUSTERS[shard], 5)
    loss_fn = tt.InfoNCE(0.2, directions="x2y", ranks=ranks)
    return loss_fn(experts.vectors[ids], mean), [experts.vectors], []


def gated(ranks, shard, x, y):
    """Any two classes as positives, of which a process has no anchor or none of the pair."""
    torch.manual_seed(0)
    gate = tt.PairGate(3, DIM, 8).double()
    loss_fn = tt.SimLAP(TAU, gate, ranks=ranks).double()
    partners = torch.tensor([0, 2, 0, 1, 2, 2, 0])[shard]
    loss = loss_fn(x + y, LABELS[shard], partners, torch.arange(ROWS)[shard])
    return loss, list(gate.parameters()), []


def remixed(ranks, shard, x, y):
    """Continuous labels with mixtures, which each process makes of its own samples."""
    labels, generator = torch.tensor([0.0, 1.5, 3.0, 0.0, 1.5, 3.0, 1.5]), torch.Generator()
    whole = [
        torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        for k in range(2)
    ]
    mixtures = LabelMixer(3, 2)(whole[0] + whole[1], labels, generator.manual_seed(5))
    mine = LabelMixtures(
        mixtures.vectors[shard], mixtures.labels[shard], mixtures.positive, mixtures.missing[shard]
    )
    loss_fn = tt.SupReMix(TAU, ranks=ranks, tile=3).double()
    return loss_fn(x + y, labels[shard], mine, torch.arange(ROWS)[shard]), [], []


def heads(ranks, shard, x, y):
    """Several heads with learned temperatures, whose hardest negatives lie on any process."""
    torch.manual_seed(0)
    loss_fn = tt.AMCL(2, DIM, hidden=5, ranks=ranks).double()
    return loss_fn([x, x - y], [x + y, y]), list(loss_fn.parameters()), []


def scalars(version):
    """Return FastCLIP whose processes exchange embeddings and numbers of samples alone."""

    def case(ranks, shard, x, y):
        rho = 1.5 if version in ("v2", "v3") else None
        loss_fn = tt.FastCLIP(ROWS + 3, version, 0.6, rho=rho, tau_init=0.2, ranks="local").double()
        ids = torch.arange(ROWS)[shard] + 2
        first = loss_fn(everybody(x.cos().detach()), everybody(y.sin().detach()), everybody(ids))
        if first.requires_grad:
            first.backward()
        loss_fn.zero_grad()
        loss_fn.step()
        loss = loss_fn(everybody(x), everybody(y), everybody(ids))
        learned = [p for p in loss_fn.parameters() if p.requires_grad]
        state = [value for value in loss_fn.state_dict().values() if value.is_floating_point()]
        return loss, learned, [value.nan_to_num() for value in state]

    return case


@contextmanager
def silent():
    """Fail where more is sent than a temperature's gradient."""
    names = ("all_reduce", "all_to_all_single", "batch_isend_irecv", "all_gather_into_tensor")
    before = {name: getattr(dist, name) for name in names}

    def only_numbers(function):
        def sent(tensor, *args, **kwargs):
            assert isinstance(tensor, torch.Tensor), "sent in the backward pass"
            assert tensor.numel() <= 2, f"{tensor.shape} sent in the backward pass"
            return function(tensor, *args, **kwargs)

        return sent

    for name in names:
        setattr(dist, name, only_numbers(before[name]))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(dist, name, function)


CASES = {
    **{f"scalars {version}": scalars(version) for version in ("v0", "v1", "v2", "v3")},
    "heads": heads,
    "remixed": remixed,
    "gated": gated,
    "swav": swav,
    "palm": palm,
    "class means": means,
    "frequent": frequent,
}


def outcome(case, ranks, shard):
    """Value, gradients of the shard and of parameters, and state."""
    sides = [
        torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(k), dtype=torch.float64)[
            shard
        ].requires_grad_()
        for k in range(2)
    ]
    value, parameters, state = case(ranks, shard, *sides)
    with silent() if case.__qualname__.startswith("scalars") else nullcontext():
        grads = torch.autograd.grad(value, [*sides, *parameters])
    return value.detach(), grads[:2], grads[2:], state


def main(rank, store, out):
    shard = slice(0, CUT) if rank == 0 else slice(CUT, None)
    alone = {name: outcome(case, "local", slice(None)) for name, case in CASES.items()}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for name, case in CASES.items():
        value, rows, parameters, state = outcome(case, "auto", shard)
        whole = alone[name]
        errors = [float((value - whole[0]).abs())]
        errors += [
            float((a / 2 - b[shard]).abs().max()) for a, b in zip(rows, whole[1], strict=True)
        ]
        for mine, told in zip(parameters, whole[2], strict=True):
            dist.all_reduce(mine)
            errors.append(float((mine / 2 - told).abs().max()))
        errors += [float((a - b).abs().max()) for a, b in zip(state, whole[3], strict=True)]
        worst = torch.tensor(max(errors), dtype=torch.float64)
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        found[name] = float(worst)
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])

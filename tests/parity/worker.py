"""One rank of the parity suite: every case on this rank's shard, compared with the whole batch.

Run as ``python worker.py RANK WORLD FOLDER``. One process alone writes what each case is on the
whole batch to FOLDER/alone.pt; of more processes the first one writes what differs from that.
"""

import json
import sys
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import distributed as dist

import tauten as tt
from cases import FURTHER, of_three
from tauten.candidates import Keys, OwnNegatives, PairQueue
from tauten.pairwise import exchange
from tauten.relations import Codes, Teacher

SAMPLES, DIM = 30, 4
COUNTS = [1 + 7 * i % 23 for i in range(SAMPLES)]
META = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(9))
MODES = {
    "dense": {"tile": "dense"},
    "tiled": {"tile": (2, 3)},
    "ring": {"tile": 3, "ranks": "ring"},
}
#: relations of a batch that each process may take whole, and one that looks so on some
POOLED = ("plain", "same", "further")


class PerSample(tt.Control):
    """A learned value for each sample."""

    granularity = "anchor"
    needs_index = True

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.linspace(0.2, 0.6, SAMPLES, dtype=torch.float64))

    def values(self, index, step):
        return self.table[index]

    def range(self):
        return 0.2, 0.6


CONTROLS = {
    "constant": lambda: tt.Constant(0.2),
    "learnable": lambda: tt.Learnable(0.2, 0.01, 1.0),
    "mmts": lambda: tt.mmts(COUNTS, 0.1, (0.1, 0.3), 7),
    "per-sample": PerSample,
    "individual": lambda: tt.Individual(SAMPLES, rho=0.5, tau_init=0.2),
    "tempnet": lambda: tt.TempNet(DIM, rho=0.5, tau_range=(0.1, 0.5), prototypes=5, dropout=0.0),
    "tau": lambda: tt.TaU(DIM, 0.1),
    "dystress": lambda: tt.DySTreSS(0.15, 0.3),
    "temo+cosine": lambda: tt.TeMo(0.1, 0.3) + tt.Cosine(-0.02, 0.02, 9),
    "distance": lambda: tt.PairDistance(META),
    "macl": lambda: tt.MACL(0.2),
    "glate": lambda: tt.GLATE(0.3, 0.1, rate=0.01),
}
LOSSES = {
    "infonce": tt.InfoNCE,
    "infonce-x2y": lambda c, **k: tt.InfoNCE(c, directions="x2y", **k),
    "smoothed": lambda c, **k: tt.InfoNCE(c, label_smoothing=0.2, **k),
    "dro": lambda c, **k: tt.InfoNCE(c, reduction=tt.DRO(0.7), **k),
    "learned-dro": lambda c, **k: tt.InfoNCE(
        c, reduction=tt.DRO(tt.Learnable(0.7, 0.1, 5.0), rho=0.2), **k
    ),
    "logsum": lambda c, **k: tt.SupCon(c, positives="logsum", **k),
    "margin": lambda c, **k: tt.InfoNCE(c, margin=tt.ClusterShift(COUNTS, -0.1, 0.3), **k),
    "arc": lambda c, **k: tt.InfoNCE(
        c, margin=tt.ClusterShift(COUNTS, -0.1, 0.3), margin_of="angle", **k
    ),
    "mv-dhel-dro": lambda c, **k: tt.MVDHEL(c, reduction=tt.DRO(0.7), **k),
    "paired-mv-infonce": tt.PairedMVInfoNCE,
    "paired-mv-dhel": tt.PairedMVDHEL,
    "infonce-sum": lambda c, **k: tt.InfoNCE(c, reduction="sum", **k),
    "equalized": lambda c, **k: tt.InfoNCE(c, force="equalized", **k),
    "reweighted": lambda c, **k: tt.InfoNCE(c, force="reweighted", **k),
    "weighted": lambda c, **k: tt.InfoNCE(c, weight=tt.ClusterShift(COUNTS, 0.5, 2.0), **k),
    "dcl": tt.DCL,
    "dclw": tt.DCLW,
    "decoupled": lambda c, **k: tt.DecoupledSoftmax(c, margin=0.1, **k),
    "z-loss": tt.ZLoss,
    "mann-whitney": tt.MannWhitney,
    "cacr": tt.CACR,
    "relative-siglip": lambda c, **k: tt.RelativeSigLIP(c, tt.Learnable(0.3, -1.0, 1.0), **k),
    "neuclip": lambda c, **k: tt.NeuCLIP(DIM, c, 0.5, prototypes=5, **k),
    "soft-top-k": lambda c, **k: tt.SoftTopK(c, 2, **k),
    "siglip": lambda c, **k: tt.SigLIP(c, tt.Learnable(-1.0, -5.0, 5.0), **k),
    "max-margin": tt.MaxMargin,
    "max-margin-equalized": lambda c, **k: tt.MaxMargin(c, force="equalized", **k),
    "sogclr": lambda c, **k: tt.SogCLR(SAMPLES, c, 0.6, **k),
    "rgcl": lambda c, **k: tt.SogCLR(SAMPLES, c, 0.6, 0.5, **k),
    "nuclr": lambda c, **k: tt.NUCLR(SAMPLES, c, 0.6, **k),
    **{name: case.build for name, case in FURTHER.items()},
}
#: losses that take more than pairs, and their calls
CALLS = {"mv-dhel-dro": of_three, **{name: case.call for name, case in FURTHER.items()}}
#: losses that differ from others in nothing that a control could change over processes
FEW = ("arc", "learned-dro", "paired-mv-infonce", "paired-mv-dhel", "decoupled", "soft-top-k")
FEW += ("z-loss", "mann-whitney", "cacr", "relative-siglip", "neuclip", *FURTHER)
ROWS, SHARDS = 8, {2: [5, 3], 4: [3, 0, 1, 4]}
WHOLE = slice(0, ROWS)


def relations(rows, cols):
    """Named relation keywords of a shard: rows and cols are slices of the whole batch."""
    labels = torch.tensor([0, 1, 0, 2, 1, 2, 0, 1])
    same = torch.tensor([0, 1, 0, 2, 3, 3, 4, 5]), torch.tensor([0, 1, 2, 2, 1, 4, 5, 3])
    ignore = torch.rand(8, 8, generator=torch.Generator().manual_seed(3)) < 0.2
    ignore.fill_diagonal_(False)
    generator = torch.Generator().manual_seed(4)
    u, v = torch.randn(2, 8, DIM, generator=generator, dtype=torch.float64)
    hard = torch.randn(8, 2, DIM, generator=generator, dtype=torch.float64)
    table, missing = torch.rand(3, 3, generator=generator), labels[rows, None] == torch.arange(2)
    kept = torch.tensor([True, True, True, False, True, True, True, False])[rows]
    return {
        "plain": {},
        "labels": {"labels": labels[rows]},
        "same": {"same": (same[0][rows], (same[1][rows], same[1][rows]))},
        "ignore": {"ignore": ignore[rows][:, cols]},
        "labels and ignore": {"labels": labels[rows], "ignore": ignore[rows][:, cols]},
        "one set": {"y_kept": None, "labels": labels[rows]},
        "further": {"further": 3} if rows.stop == cols.stop else {},  # the last has them
        "teacher": {"targets": Teacher(u[rows], v[rows], 0.3, share=0.6)},
        "matrix": {"targets": (u @ v.T).exp()[rows][:, cols], "same": (same[0][rows],)},
        "repulsion": {"repulsion": Codes(table, labels[rows], labels[rows])},
        "own": {"negatives": OwnNegatives(hard[rows], u[rows, None], missing)},
        "keys": {"queue": PairQueue(6, DIM, ids=2, shared=rows != slice(0, 8))},
        "fewer columns": {"y_kept": kept, "labels": (labels[rows], labels[rows][kept])},
    }


def sides(y, ids, y_kept=..., further=None, **_):
    """What the loss is given for y and as ids: nothing, some rows, all, or more than those."""
    if further is not None:
        more = torch.randn(further, DIM, generator=torch.Generator().manual_seed(7)).to(y)
        return torch.cat([y, more]), (ids, torch.cat([ids, torch.arange(further)]))
    if y_kept is None:
        return None, ids
    return (y, ids) if y_kept is ... else (y[y_kept], (ids, ids[y_kept]))


def options(y_kept=..., further=None, queue=None, own=None, **relation):
    """The keywords of the loss itself."""
    return relation if queue is None else {"keys": queue.candidates(own)}


def run(loss_fn, call, shard, relation, steps=2):
    """Loss values, gradients of embeddings and parameters, and state after some steps."""
    found = {}
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x, y = (torch.randn(ROWS, DIM, generator=generator, dtype=torch.float64) for _ in range(2))
        ids = torch.randint(0, SAMPLES, (ROWS,), generator=generator)
        a, b = x[shard].clone().requires_grad_(), (x + y)[shard].clone().requires_grad_()
        loss_fn.zero_grad()
        own = Keys(*torch.tanh(torch.stack([x, y]))[:, shard], ids[shard], (ids[shard] // 3,))
        if call is None:
            loss = loss_fn(a, *sides(b, ids[shard], **relation), **options(**relation, own=own))
        else:
            loss = call(loss_fn, a, b, ids[shard])
        loss.backward()
        if "queue" in relation:
            relation["queue"].push(own)
        found[f"loss/{step}"] = loss.detach()
        found[f"x/{step}"] = a.grad
        found[f"y/{step}"] = torch.zeros_like(b) if b.grad is None else b.grad
        for name, parameter in loss_fn.named_parameters():
            found[f"parameter {name}/{step}"] = parameter.grad
        loss_fn.step()
    return found, loss_fn.state_dict()


def gathered(found, state, world):
    """What data parallelism makes of it: the mean of parameters' gradients, and embeddings' own."""
    parts = [None] * world
    dist.all_gather_object(parts, (found, state))
    result = {}
    for name in found:
        values = [part[name] for part, _ in parts]
        if name.startswith(("x/", "y/")):
            result[name] = torch.cat(values) / world
        elif name.startswith("parameter"):
            result[name] = None if values[0] is None else sum(values) / world
        else:
            result[name] = values
    return result, [states for _, states in parts]


def differences(case, local, across):
    """Lines that say what is not equal."""
    (alone, state), (found, states) = local, across
    problems = []
    for name, value in alone.items():
        other = found[name]
        for rank, part in enumerate(other) if isinstance(other, list) else [("all", other)]:
            if value is None and part is None:
                continue
            if not torch.allclose(part, value, rtol=1e-9, atol=1e-9):
                gap = float((part - value).abs().max())
                problems.append(f"{case} {name} rank {rank}: differs by {gap:.2e}")
    for rank, other in enumerate(states):
        for name, value in state.items():
            if not torch.allclose(other[name], value, rtol=1e-9, atol=1e-9, equal_nan=True):
                problems.append(f"{case} state {name} rank {rank}")
    return problems


def build(loss, control, **options):
    """A loss driven by a control, with the same weights on all ranks."""
    torch.manual_seed(0)
    return loss(control(), **options).double()


#: the name of the control of a loss that has numbers of its own in its place
OWN = "own"
#: endings of names of which all ways over processes are tried
EVERY = ("per-sample", OWN)


def cases():
    """(name, constructor of options -> loss, relation) that may be built."""
    for loss_name, loss in LOSSES.items():
        if loss_name in FURTHER and FURTHER[loss_name].constant:
            yield f"{loss_name} {OWN}", partial(build, loss, lambda: 0.1)
            continue
        for control_name, control in CONTROLS.items():
            if loss_name in FEW and control_name != "per-sample":
                continue
            try:
                loss(control())
            except ValueError:
                continue
            yield f"{loss_name} {control_name}", partial(build, loss, control)


def refused_together(rank, world):
    """Lines on batches that only the last process has reason to refuse; none may wait for it."""
    x, last = torch.randn(2, DIM), rank == world - 1
    calls = {
        "labels [9] of x have no positive but itself: rows 1": lambda: tt.SupCon(0.1)(
            x, labels=torch.tensor([0, 9 * last])
        ),
        "labels 9.5 have no positive but one row each, 1": lambda: tt.SupReMix(0.1)(
            x, torch.tensor([0.5, 0.5 + 9 * last])
        ),
    }
    problems = []
    for named, call in calls.items():
        reasons = [None] * world
        try:
            reason = str(call())
        except ValueError as error:
            reason = str(error)
        dist.all_gather_object(reasons, reason)
        wanted = ["1 anchors of other processes without a positive"] * (world - 1) + [named]
        problems += [
            f"refusal: {said}"
            for said, want in zip(reasons, wanted, strict=True)
            if want not in said
        ]
    return problems


def alone():
    """What each case that is not refused gives on one process, by its name and its relation."""
    found = {}
    for name, make in cases():
        for relation, keywords in relations(WHOLE, WHOLE).items():
            told = ("per-sample", "dystress", "individual", "infonce learnable", "siglip learnable")
            if relation == "further":
                told = ("per-sample", "nuclr constant", "sogclr constant")
            if relation in ("teacher", "matrix", "repulsion", "own"):
                told = ("infonce learnable", "infonce per-sample", "dcl per-sample")
            if relation == "own":
                told = (*told, "siglip learnable", "max-margin per-sample", "infonce individual")
            if relation == "keys":
                told = ("per-sample", "individual", "tempnet", "distance", "infonce learnable")
            call = CALLS.get(name.split()[0])
            if relation != "plain" and (call or not name.endswith(told)):
                continue
            with suppress(ValueError):
                loss_fn = make(tile="dense", ranks="local")
                found[name, relation] = run(loss_fn, call, WHOLE, keywords)
    assert {name.split()[0] for name, _ in found} == {*LOSSES}, "a loss that was always refused"
    return found


def modes(name, relation, at):
    """Names of all modes for every loss, every control and every relation; else one in turn."""
    if name.startswith("infonce ") or (relation == "plain" and name.endswith(EVERY)):
        return list(MODES)
    return [list(MODES)[at % len(MODES)]]


def compare(rank, world, expected):
    """How many cases there are, and what differs in them on the first process."""
    start = sum(SHARDS[world][:rank])
    shard = slice(start, start + SHARDS[world][rank])
    names = [list(expected)]
    dist.broadcast_object_list(names)
    makers, problems, count, pooled = dict(cases()), [], 0, 0
    for at, (name, relation) in enumerate(names[0]):
        if world > 2 and not name.startswith("infonce ") and not name.endswith(EVERY):
            continue
        call = CALLS.get(name.split()[0])
        pools = relation in POOLED and getattr(makers[name](), "pools", False)
        for mode in [*modes(name, relation, at + world // 2), *(["pooled"] if pools else [])]:
            keywords = relations(shard, WHOLE)[relation]
            loss_fn = makers[name](**MODES.get(mode, {}))
            mine = run(loss_fn, call, shard, keywords)
            across = gathered(*mine, world)
            count += 1
            pooled += mode == "pooled" and loss_fn._room.small
            if rank == 0:
                case = f"{name} {relation} {mode}"
                problems += differences(case, expected[name, relation], across)
    problems += refused_together(rank, world)
    return {"cases": count, "pooled": pooled, "problems": problems}


def main():
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if world == 1:
        torch.save(alone(), folder / "alone.pt")
        return
    if world > 2:  # nothing leaves at once
        exchange.SMALL = 0
    store = f"file://{folder}/store{world}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    found = compare(rank, world, torch.load(folder / "alone.pt") if rank == 0 else {})
    if rank == 0:
        (folder / f"{world}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

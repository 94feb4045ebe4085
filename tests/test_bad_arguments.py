"""No argument is taken for what it is not: each bad one ends in ValueError or TypeError."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tauten as tt
from tauten.candidates import KeyQueue, MomentumEncoder, PairQueue

META, INDEX = torch.tensor([[0.0], [1.0], [2.0], [4.0]]), torch.arange(4)
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

#: what each is built from, all of it good
BUILT = {
    tt.Constant: {"value": 0.1},
    tt.Learnable: {"init": 0.1, "low": 0.01, "high": 1.0},
    tt.Cosine: {"low": 0.1, "high": 0.2, "period": 9, "phase": 0.0, "every": 1},
    tt.Anneal: {"start": 0.1, "end": 0.2, "steps": 9, "every": 1},
    tt.ClusterShift: {"counts": [1, 2, 3, 4], "low": 0.1, "high": 0.2, "scale": "linear"},
    tt.mmts: {"counts": [1, 2, 3, 4], "alpha": 0.01, "shift": (0.1, 0.2), "period": 9},
    tt.Individual: {
        "num_samples": 4, "rho": 1.0, "tau_init": 0.1, "tau_range": (0.01, 1.0), "lr": 0.1,
        "beta": 0.9, "adam": (0.9, 0.99), "max_gradient": 5.0, "table_device": None,
    },
    tt.TempNet: {
        "dim": 3, "rho": 1.0, "tau_range": (0.01, 1.0), "prototypes": 4, "dropout": 0.5,
        "shared": False,
    },
    tt.TaU: {"dim": 3, "value": 0.1, "high": 2.0},
    tt.DySTreSS: {"low": 0.1, "high": 0.2, "peak": 1.0, "width": 1.0},
    tt.TeMo: {"low": 0.1, "high": 0.2, "detach": False},
    tt.MACL: {"init": 0.1, "slope": 0.5, "threshold": 0.0},
    tt.GLATE: {"init": 0.2, "low": 0.1, "rate": 0.1, "discount": 0.7, "t": 2.0},
    tt.PairDistance: {
        "metadata": META, "value": 0.5, "kind": "linear", "distances": (0.0, 1.0),
        "steepness": 1.0, "middle": 0.0, "floor": 0.1,
    },
    tt.InfoNCE: {
        "temperature": 0.1, "force": "plain", "weight": 1.0, "directions": "both",
        "normalize": True, "tile": "auto", "reduction": "mean", "ranks": "auto",
    },
    tt.SupCon: {"temperature": 0.1},
    tt.MaxMargin: {"margin": 0.1},
    tt.SigLIP: {"temperature": 0.1, "bias": -1.0},
    tt.SMS: {"margin": 0.1, "table": torch.rand(3, 3), "slack": 0.1, "tie": 0.01},
    tt.SogCLR: {"num_samples": 4, "temperature": 0.1, "gamma": 0.9, "rho": 1.0},
    tt.FastCLIP: {
        "num_samples": 4, "version": "v2", "gamma": 0.9, "rho": 1.0, "tau_init": 0.1,
        "tau_range": (0.01, 1.0), "tau_lr": 0.1, "adam": (0.9, 0.99), "epsilon": 1e-6,
    },
    tt.NUCLR: {"num_samples": 4, "temperature": 0.1, "gamma": 0.9, "lr": 0.1},
    tt.SampleTable: {"size": 4, "columns": {"a": 0.0}, "device": None},
    KeyQueue: {"size": 4, "dim": 3},
    PairQueue: {"size": 4, "dim": 3},
    MomentumEncoder: {"encoder": torch.nn.Linear(2, 2), "momentum": 0.9},
}  # fmt: skip
ARGUMENTS = [(make, name) for make, options in BUILT.items() for name in options]

#: good for no argument of any of them
NEVER = st.sampled_from(
    [
        "", "nosuch", b"x", math.nan, -math.inf, 10**400, -(10**400), object(), 1j, {},
        [], (), (0.5,), (math.nan, 1.0), (10**400, 1.0), ("a", "b"), [None], torch.ones(2) * 1j,
        torch.tensor([math.nan]), torch.ones(2, 2, 2), torch.tensor(math.nan), np.float32("nan"),
        lambda: 1, float,
    ]
)  # fmt: skip

#: good for no number, whole or not
NO_NUMBER = st.one_of(
    st.booleans(), st.text(max_size=3), st.binary(max_size=2), st.just(torch.ones(2))
)


@pytest.mark.parametrize(("make", "name"), ARGUMENTS)
@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_bad_options_are_refused(make, name, data):
    options = BUILT[make]
    numeric = isinstance(options[name], (int, float)) and not isinstance(options[name], bool)
    value = data.draw(st.one_of(NEVER, NO_NUMBER) if numeric and name != "weight" else NEVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, TypeError)):
            make(**{**options, name: value})
        make(**options)


LOSSES = {
    "shift": lambda: tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4], 0.1, 0.2)),
    "dcl": lambda: tt.DCL(0.1),
    "margin": lambda: tt.MaxMargin(0.1),
    "sms": lambda: tt.SMS(0.1),
    "isogclr": lambda: tt.iSogCLR(4, rho=0.5),
    "nuclr": lambda: tt.NUCLR(4),
    "pair": lambda: tt.InfoNCE(tt.PairDistance(META)),
    "supcon": lambda: tt.SupCon(0.1),
}
CALL = {"x": X, "y": X.flip(0), "index": INDEX, "ignore": None, "same": (), "positives": None}
CALLS = {name: CALL for name in LOSSES} | {
    "sms": CALL | {"relevancy": torch.rand(4, 4)},
    "margin": CALL | {"relevance": torch.rand(4)},
    "supcon": {k: v for k, v in CALL.items() if k != "positives"} | {"labels": INDEX // 2},
}
NO_TENSOR = st.sampled_from(
    [
        "nosuch", 1, 1.5, {}, object(), np.zeros((4, 3)), torch.ones(()), torch.ones(5),
        torch.ones(4, 3, 2), torch.ones(4, 3).long(), torch.ones(4, 3, dtype=torch.complex64),
        torch.full((4, 3), math.nan), torch.ones(4, 0), torch.ones(3, 3), torch.arange(5),
        (INDEX, INDEX, torch.arange(3)), (INDEX, "a"), [1.5], torch.ones(4, 3).to_sparse(),
        torch.full((4, 4), 2.0), torch.full((4,), -0.5), torch.ones(4, 1, dtype=torch.bool),
    ]
)  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=120, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_bad_batches_are_refused(name, data):
    call = CALLS[name]
    argument = data.draw(st.sampled_from(sorted(call)))
    value = data.draw(NO_TENSOR)
    with pytest.raises((ValueError, TypeError)):
        LOSSES[name]()(**{**call, argument: value})


STEP = st.sampled_from([True, 1.5, math.nan, -1, 10**400, -(10**400), "a", torch.ones(2), (1,), 1j])
METHODS = [
    (lambda v: tt.Cosine(0.1, 0.2, 9).at(INDEX, v), STEP),
    (lambda v: tt.ClusterShift([1, 2, 3, 4], 0.1, 0.2).at(INDEX, v), STEP),
    (lambda v: tt.Cosine(0.1, 0.2, 9).mean(INDEX, v), STEP),
    (lambda v: tt.Constant(0.1) * v, NEVER),
    (lambda v: tt.Cosine(0.1, 0.2, 9) / v, NEVER),
    (lambda v: v / tt.Cosine(0.1, 0.2, 9), NEVER),
    (lambda v: tt.Cosine(0.1, 0.2, 9).clamp(0.0, v), NEVER),
    (lambda v: KeyQueue(4, 3).push(v, INDEX), NO_TENSOR.filter(lambda v: not _is(v, (4, 3)))),
    (lambda v: KeyQueue(4, 3).push(X, v), NO_TENSOR),
    (lambda v: tt.InfoNCE(0.1).tau(v), NO_TENSOR.filter(lambda v: not _is(v, (5,)))),
]


def _is(value, shape):
    """Whether it is a tensor of that shape, which may be good."""
    return isinstance(value, torch.Tensor) and value.shape == shape


@pytest.mark.parametrize("at", range(len(METHODS)))
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_bad_arguments_of_methods_are_refused(at, data):
    call, values = METHODS[at]
    with pytest.raises((ValueError, TypeError)):
        call(data.draw(values))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tt.InfoNCE(tau=0.07), r"InfoNCE has no option tau=: did you mean temperature=\?"),
        (lambda: tt.MaxMargin(tau=0.2), r"MaxMargin has no option tau=: did you mean margin=\?"),
        (lambda: tt.DCL(0.1, direction="x2y"), r"did you mean directions=\?"),
        (lambda: tt.SogCLR(9, 0.1, table_dev="cpu"), r"did you mean table_device=\?"),
        (lambda: tt.Cosine(min=0.1, high=0.2, period=3), r"did you mean low=\?"),
        (lambda: tt.TempNet(4, tau_rang=(0.1, 0.2)), r"did you mean tau_range=\?"),
        (lambda: tt.InfoNCE(0.1, zzz=1), r"has no option zzz=: It has temperature, label_smooth"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_a_class_of_ones_own_takes_what_it_declares():
    class Mine(tt.InfoNCE):
        def __init__(self, *args, extra=1, **options):
            super().__init__(*args, **options)
            self.extra = extra

    assert Mine(0.1, extra=3, tile="dense").extra == 3
    with pytest.raises(TypeError, match="InfoNCE has no option nosuch="):
        Mine(0.1, nosuch=3)

"""Every control in every loss: refused with the reason, or trained and differentiated."""

import math
import re
import warnings

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.controls.base import Control
from tauten.pairwise import PairNumber

N, DIM, RHO = 5, 4, 0.7
INDEX = torch.tensor([3, 0, 4, 1, 2])
COUNTS = [1, 5, 40, 300, 7]
METADATA = torch.randn(N, 3, generator=torch.Generator().manual_seed(5))
TILES = ["dense", (2, 3)]
SIDES = ("x2y", "y2x")


# --- the controls. `freeze` is put around each part whose value depends on the embeddings and is
# --- detached from them: it leaves the part as it is, or holds the values that it has.


def learnable(value=0.3):
    return tt.Learnable(value, 0.05, 0.9)


def individual(**options):
    control = tt.Individual(N, RHO, 0.3, (0.05, 0.9), **options)
    for at, side in enumerate(SIDES):
        tau = torch.linspace(0.2 + 0.1 * at, 0.6, N)
        control.tables[side].values[:, 0] = tau
    return control


def perturbed(control):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in control.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(3.0 if "sharpness" in name else noise)
    return control


def tempnet(**options):
    torch.manual_seed(0)
    settings = {"rho": RHO, "tau_range": (0.15, 0.8), "prototypes": 6, "dropout": 0.0}
    return perturbed(tt.TempNet(DIM, **settings, **options))


def uncertain():
    torch.manual_seed(0)
    return perturbed(tt.TaU(DIM, 0.2))


CONTROLS = {
    "constant": lambda freeze: tt.Constant(0.3),
    "learnable": lambda freeze: learnable(),
    "cosine": lambda freeze: tt.Cosine(0.1, 0.4, 6),
    "anneal": lambda freeze: tt.Anneal(0.4, 0.2, 6, every=2),
    "shift": lambda freeze: tt.ClusterShift(COUNTS, 0.2, 0.5),
    "mmts": lambda freeze: tt.mmts(COUNTS, 0.1, (0.2, 0.5), 6),
    "individual": lambda freeze: individual(),
    "individual-adam": lambda freeze: individual(adam=(0.9, 0.999)),
    "tempnet": lambda freeze: freeze(tempnet()),
    "tau": lambda freeze: uncertain(),
    "dystress": lambda freeze: freeze(tt.DySTreSS(0.15, 0.3)),
    "temo": lambda freeze: tt.TeMo(0.15, 0.4),
    "macl": lambda freeze: freeze(tt.MACL(0.3, 0.5)),
    "pair": lambda freeze: tt.PairDistance(METADATA, 0.2),
    "learnable+shift": lambda freeze: learnable() + tt.ClusterShift(COUNTS, 0.0, 0.2),
    "1/learnable": lambda freeze: 1 / tt.Learnable(4.0, 1.5, 20.0),
    "macl+cosine": lambda freeze: freeze(tt.MACL(0.3, 0.5)) + tt.Cosine(-0.05, 0.05, 6),
    "tempnet+cosine": lambda freeze: freeze(tempnet()) + tt.Cosine(-0.05, 0.05, 6),
    "2*tempnet": lambda freeze: 2 * freeze(tempnet()),
    "tau.clamp": lambda freeze: uncertain().clamp(0.1, 0.45),
    "tau+learnable": lambda freeze: uncertain() + learnable(),
    "dystress+cosine": lambda freeze: freeze(tt.DySTreSS(0.15, 0.3)) + tt.Cosine(-0.05, 0.05, 6),
    "dystress+learnable": lambda freeze: freeze(tt.DySTreSS(0.15, 0.3)) + learnable(),
    "1/(2/dystress)": lambda freeze: 1 / (2 / freeze(tt.DySTreSS(0.3, 0.6))),
    "temo+tau": lambda freeze: tt.TeMo(0.05, 0.2) + uncertain(),
    "pair+shift": lambda freeze: (
        0.5 * tt.PairDistance(METADATA, 0.2) + tt.ClusterShift(COUNTS, 0.1, 0.3)
    ),
    "pair.clamp": lambda freeze: tt.PairDistance(METADATA, 0.2).clamp(0.25, 0.4),
}

LOSSES = {
    "infonce": lambda c, **kw: tt.InfoNCE(c, **kw),
    "infonce-eq": lambda c, **kw: tt.InfoNCE(c, force="equalized", **kw),
    "infonce-rw": lambda c, **kw: tt.InfoNCE(c, force="reweighted", **kw),
    "dcl": lambda c, **kw: tt.DCL(c, **kw),
    "dcl-eq": lambda c, **kw: tt.DCL(c, force="equalized", **kw),
    "siglip": lambda c, **kw: tt.SigLIP(c, bias=-1.0, **kw),
    "margin": lambda c, **kw: tt.MaxMargin(c, **kw),
    "margin-eq": lambda c, **kw: tt.MaxMargin(c, force="equalized", **kw),
    "sogclr": lambda c, **kw: tt.SogCLR(N, c, 1.0, **kw),
    "sogclr-rho": lambda c, **kw: tt.SogCLR(N, c, 1.0, RHO, **kw),
    "fastclip": lambda c, **kw: tt.SogCLR(N, c, tt.Anneal(1.0, 0.2, 4, every=2), RHO, **kw),
    "nuclr": lambda c, **kw: tt.NUCLR(N, c, 1.0, **kw),
}

# o: accepted; d: accepted with a CompositionWarning; r: refused
VERDICTS = """
                   infonce      dcl    siglip margin sogclr fast- nuclr
                   -  eq rw     -  eq         -  eq  -  rho clip
constant           o  o  o      o  o   o      o  o   o  o   o     o
learnable          o  o  o      r  r   o      r  r   r  o   o     r
cosine             o  o  o      o  o   o      o  o   o  o   o     o
anneal             o  o  o      o  o   o      o  o   o  o   o     o
shift              o  o  o      o  o   o      o  o   o  o   o     o
mmts               o  o  o      o  o   o      o  o   o  o   o     o
individual         d  d  d      o  o   r      r  r   o  o   o     r
individual-adam    d  d  d      o  o   r      r  r   o  o   o     r
tempnet            d  d  d      o  o   r      r  r   o  o   o     r
tau                o  o  o      d  d   o      r  r   r  o   o     r
dystress           o  r  o      o  r   o      o  r   r  r   r     r
temo               o  r  o      o  r   o      o  r   r  r   r     r
macl               o  o  o      o  o   o      o  o   o  o   o     o
pair               o  r  o      o  r   o      o  r   r  r   r     r
learnable+shift    o  o  o      r  r   o      r  r   r  o   o     r
1/learnable        o  o  o      r  r   o      r  r   r  o   o     r
macl+cosine        o  o  o      o  o   o      o  o   o  o   o     o
tempnet+cosine     d  d  d      o  o   r      r  r   o  o   o     r
2*tempnet          d  d  d      o  o   r      r  r   o  o   o     r
tau.clamp          o  o  o      d  d   o      r  r   r  o   o     r
tau+learnable      o  o  o      d  d   o      r  r   r  o   o     r
dystress+cosine    o  r  o      o  r   o      o  r   r  r   r     r
dystress+learnable o  r  o      r  r   o      r  r   r  r   r     r
1/(2/dystress)     o  r  o      o  r   o      o  r   r  r   r     r
temo+tau           o  r  o      d  r   o      r  r   r  r   r     r
pair+shift         o  r  o      o  r   o      o  r   r  r   r     r
pair.clamp         o  r  o      o  r   o      o  r   r  r   r     r
"""

TABLE = {
    row.split()[0]: dict(zip(LOSSES, row.split()[1:], strict=True))
    for row in VERDICTS.strip().splitlines()[2:]
}
PAIRS = [(control, loss) for control in TABLE for loss in LOSSES]
ACCEPTED = [(control, loss) for control, loss in PAIRS if TABLE[control][loss] != "r"]

#: why a loss says no to a kind of control
REASONS = {
    ("dcl", "gradient"): "once pairs are separated.*robust objective",
    ("siglip", "dual"): "no partition to learn τ from",
    ("margin", "gradient"): "a learned margin only shrinks",
    ("margin", "dual"): "hinges have no partition",
    ("sogclr", "gradient"): "without ρ·τ the loss falls with τ without bound: give rho > 0",
    ("nuclr", "gradient"): "falls with τ without bound.*no ρ·τ to hold it",
    ("nuclr", "dual"): "learned from the same partition, and its objective has no ρ",
    ("sogclr", "pair"): "one τ for each anchor",
    ("fastclip", "pair"): "one τ for each anchor",
    ("nuclr", "pair"): "one τ for each anchor",
    ("equalized", "pair"): "divides an anchor's τ out.*one for each pair",
}
CLASSES = {
    "infonce": "InfoNCE",
    "dcl": "DCL",
    "siglip": "SigLIP",
    "margin": "MaxMargin",
    "sogclr": "SogCLR",
    "fastclip": "SogCLR",
    "nuclr": "NUCLR",
}


# --- what the tests share


class Frozen(Control):
    """The values that a control has on these embeddings, whatever the embeddings are later."""

    def __init__(self, control, x, y):
        super().__init__()
        self.granularity, self.rho = control.granularity, control.rho
        self._control, self._held = [control], {}
        self._s = cosines(x, y).detach()
        self._range = control.range()

    def on(self, anchors):
        if anchors.direction not in self._held:
            self._held[anchors.direction] = self._hold(self._control[0].on(anchors))
        return self._held[anchors.direction]

    def _hold(self, number):
        if isinstance(number, PairNumber):
            matrix = number.rule(self._s, *number.numbers).detach()
            return PairNumber(_look_up, (matrix.unsqueeze(1), torch.arange(N).unsqueeze(0)))
        return number.detach()

    def range(self):
        return self._range


def _look_up(s, rows, cols):
    if rows.dim() == 3:
        return rows[:, 0].gather(1, cols.expand(len(rows), -1))
    return rows.gather(1, cols.unsqueeze(1)).squeeze(1)


class Fixed(Control):
    """Values (N,) of the anchors of each direction."""

    granularity = "anchor"

    def __init__(self, values):
        super().__init__()
        self._values = values

    def on(self, anchors):
        return self._values[anchors.direction]

    def range(self):
        return 0.0, 1e6


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(N, DIM, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def cosines(x, y):
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def build(loss, control, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tt.CompositionWarning)
        return LOSSES[loss](control, **options).double()


def unchanged(part):
    return part


def gradcheck(function, *inputs):
    """Along random directions, which costs two values for each input and sees every entry."""
    inputs = tuple(part.detach().requires_grad_() for part in inputs)
    options = {"eps": 1e-6, "atol": 1e-7, "fast_mode": True, "check_undefined_grad": False}
    return torch.autograd.gradcheck(function, inputs, **options)


def temperatures(control, x, y):
    """(N, N) of the rows and of the columns as anchors, by the batch of a loss that takes all."""
    frame = tt.InfoNCE(control).double().batch(x, y, INDEX)
    s, found = cosines(x, y), {}
    for side in SIDES:
        number = frame.strength(control, side)
        if isinstance(number, PairNumber):
            matrix = number.rule(s, *number.numbers)
        else:
            matrix = frame.number(number, side)
        found[side] = matrix.expand(N, N).detach()
    return found


def factors(loss, control, x, y):
    """What the force multiplies each anchor's loss by, from the formula over the whole matrix."""
    if not loss.endswith(("-eq", "-rw")):
        return None
    s, tau = cosines(x, y).detach(), temperatures(control, x, y)
    found = {}
    for side in SIDES:
        t, rows = (tau[side], s) if side == "x2y" else (tau[side].T, s.T)
        if loss == "infonce-rw":
            found[side] = 1 / (1 - (rows / t).softmax(1).diagonal())
        elif loss == "margin-eq":
            violated = (t - rows.diagonal().unsqueeze(1) + rows > 0).fill_diagonal_(False)
            found[side] = 1 / violated.sum(1).clamp(min=1).double()
        else:
            found[side] = t[:, 0]
    if loss == "infonce-rw":
        return found
    mean = torch.stack(list(found.values())).mean()
    return {side: value / mean for side, value in found.items()}


def reference(loss, control, x, y, weight, **options):
    """The plain loss of this control with the weights held."""
    plain = loss.split("-")[0] if loss.endswith(("-eq", "-rw")) else loss
    fixed = None if weight is None else Fixed(weight)
    return build(plain, control, weight=fixed, **options).eval()


# --- the tests


def test_the_table_names_every_pair_once():
    assert list(TABLE) == list(CONTROLS)
    assert all(list(row) == list(LOSSES) for row in TABLE.values())


@pytest.mark.parametrize(("name", "loss"), PAIRS)
def test_verdict(name, loss):
    control = CONTROLS[name](unchanged)
    family = loss.split("-")[0]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            LOSSES[loss](control)
        except ValueError as error:
            verdict, message = "r", str(error)
        else:
            verdict = "d" if seen else "o"
    assert verdict == TABLE[name][loss]
    if verdict == "r":
        kinds = ("pair",) if control.granularity == "pair" else ()
        known = [REASONS.get((family, kind)) for kind in (*kinds, control.learns)]
        if loss.endswith("-eq") and kinds:
            known.append(REASONS["equalized", "pair"])
        assert any(reason is not None and re.search(reason, message) for reason in known)
        assert repr(control) in message
        assert CLASSES[family] in message
    if verdict == "d":
        assert [warning.category for warning in seen] == [tt.CompositionWarning]
        assert repr(control) in str(seen[0].message)
        assert f"{CLASSES[family]}'s temperature is doubtful: " in str(seen[0].message)


@pytest.mark.parametrize(("name", "loss"), ACCEPTED)
def test_one_step_trains(name, loss):
    x, y = (torch.nn.Parameter(v.detach().float()) for v in batch())
    control = CONTROLS[name](unchanged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tt.CompositionWarning)
        loss_fn = LOSSES[loss](control)
    own = list(loss_fn.parameters())
    before = [p.detach().clone() for p in (x, y, *own)]
    tables = {k: v.clone() for k, v in loss_fn.state_dict().items() if k.endswith("values")}
    optimizer = torch.optim.AdamW([x, y, *own], lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        value = loss_fn(x, y, INDEX)
        value.backward()
        for parameter in (x, y, *own):
            assert bool(parameter.grad.isfinite().all())
            assert bool(parameter.grad.any())
        optimizer.step()
        loss_fn.step()
        assert bool(value.isfinite())
        assert all(bool(t.isfinite().all()) for t in loss_fn.state_dict().values())
    for old, parameter in zip(before, (x, y, *own), strict=True):
        assert not torch.equal(old, parameter)
    moved = {k for k, v in tables.items() if not torch.equal(v, loss_fn.state_dict()[k])}
    assert moved == set(tables)
    assert loss_fn.steps == loss_fn.strength.steps == 2
    ids, tau = loss_fn.last_tau
    low, high = control.range()
    assert torch.equal(ids, INDEX)
    assert low - 1e-6 <= float(tau.min()) <= float(tau.max()) <= high + 1e-6


@pytest.mark.parametrize(("name", "loss"), ACCEPTED)
def test_gradients(name, loss):
    """The gradient is that of the loss in which what the rules detach are numbers."""
    x, y = batch()
    control = CONTROLS[name](unchanged).double()
    held = CONTROLS[name](lambda part: Frozen(part.double(), x, y)).double()
    weight = factors(loss, control, x, y)
    found = []
    for tile in TILES:
        loss_fn = build(loss, control, tile=tile)
        constant = reference(loss, held, x, y, weight, tile=tile)
        value, expected = loss_fn(x, y, INDEX), constant(x, y, INDEX)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
        wanted = torch.autograd.grad(expected, (x, y))
        found.append(torch.autograd.grad(value, (x, y)))
        torch.testing.assert_close(found[-1], wanted, rtol=1e-8, atol=1e-11)
        loss_fn.eval()
        evaluated = torch.autograd.grad(loss_fn(x, y, INDEX), (x, y))
        torch.testing.assert_close(evaluated, wanted, rtol=1e-8, atol=1e-11)
        assert gradcheck(lambda both, fn=constant: fn(both[:N], both[N:], INDEX), torch.cat([x, y]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def learns(name, loss):
    """Whether parameters of the control have the gradient of the loss's value."""
    kind = CONTROLS[name](unchanged).learns
    own = kind == "dual" and "individual" not in name
    return kind == "gradient" or (own and loss in ("sogclr", "sogclr-rho", "fastclip"))


@pytest.mark.parametrize(("name", "loss"), [pair for pair in ACCEPTED if learns(*pair)])
def test_gradients_of_what_is_learned(name, loss):
    """By the loss's own gradient or, in SogCLR at γ = 1, by that of the robust objective."""
    x, y = (v.detach() for v in batch())
    control = CONTROLS[name](unchanged).double()
    weight = factors(loss, control, x, y)
    for tile in TILES:
        loss_fn = build(loss, control, tile=tile)
        loss_fn(x, y, INDEX).backward()
        found = [p.grad.clone() for p in control.parameters()]
        control.zero_grad()
        constant = reference(loss, control, x, y, weight, tile=tile)
        names = [f"strength.{key}" for key, _ in control.named_parameters()]
        values = [p.detach().clone().requires_grad_() for p in control.parameters()]

        def value(*values, constant=constant, names=names):
            parts = dict(zip(names, values, strict=True))
            return torch.func.functional_call(constant, parts, (x, y, INDEX), tie_weights=False)

        expected = torch.autograd.grad(value(*values), values)
        torch.testing.assert_close(tuple(found), expected, rtol=1e-8, atol=1e-12)
        assert gradcheck(value, *values)


def test_the_warning_points_to_the_line_that_composes():
    for make in (lambda: tt.InfoNCE(tempnet()), lambda: tt.DCL(uncertain())):
        with pytest.warns(tt.CompositionWarning) as seen:
            make()
        assert [warning.filename for warning in seen] == [__file__]


COSINE_RANGE = {
    "dystress": lambda: tt.DySTreSS(0.15, 0.3),
    "temo": lambda: tt.TeMo(0.15, 0.4),
    "macl": lambda: tt.MACL(0.3, 0.5),
    "sum": lambda: tt.Cosine(0.1, 0.2, 5) + 2 * tt.MACL(0.3, 0.5),
}


@pytest.mark.parametrize("make", [tt.InfoNCE, tt.DCL, tt.SigLIP, tt.MaxMargin])
@pytest.mark.parametrize("name", COSINE_RANGE)
def test_rules_of_cosines_need_normalized_embeddings(name, make):
    control = COSINE_RANGE[name]()
    with pytest.raises(ValueError, match=r"defined for cosines.*normalize=False") as error:
        make(control, normalize=False)
    assert repr(control) in str(error.value)
    assert make.__name__ in str(error.value)
    make(control)


@pytest.mark.parametrize("name", ["pair", "tau", "tempnet", "learnable", "mmts"])
def test_other_rules_take_any_similarity(name):
    x, y = batch()
    loss_fn = build("infonce", CONTROLS[name](unchanged), normalize=False)
    assert bool(loss_fn(x, y, INDEX).isfinite())


@pytest.mark.parametrize("make", [tt.InfoNCE, tt.DCL, tt.SigLIP, tt.MaxMargin])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("learnable", "a learned weight only shrinks"),
        ("learnable+shift", "a learned weight only shrinks"),
        ("tau", "a learned weight only shrinks"),
        ("individual", "says nothing of weights"),
        ("2*tempnet", "says nothing of weights"),
        ("dystress", "one weight"),
        ("pair+shift", "one weight"),
    ],
)
def test_weights_that_mean_nothing_are_refused(name, reason, make):
    control = CONTROLS[name](unchanged)
    with pytest.raises(ValueError, match=f"cannot be {make.__name__}'s weight: .*{reason}"):
        make(0.3, weight=control)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("learnable", "no parameter of the objective"),
        ("tau", "no parameter of the objective"),
        ("individual", "γ is no temperature"),
        ("tempnet", "γ is no temperature"),
        ("dystress", "γ is the same for all"),
        ("pair", "γ is the same for all"),
        ("shift", "the same for all"),
        ("macl", "MACL"),
    ],
)
@pytest.mark.parametrize("make", [tt.SogCLR, tt.NUCLR])
def test_averages_that_mean_nothing_are_refused(name, reason, make):
    with pytest.raises(ValueError, match=reason):
        make(N, 0.3, gamma=CONTROLS[name](unchanged))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("individual", "says nothing of a bias"),
        ("tempnet+cosine", "says nothing of a bias"),
        ("temo", "one bias"),
        ("pair", "one bias"),
    ],
)
def test_biases_that_mean_nothing_are_refused(name, reason):
    with pytest.raises(ValueError, match=f"cannot be SigLIP's bias: .*{reason}"):
        tt.SigLIP(0.3, bias=CONTROLS[name](unchanged))


@pytest.mark.parametrize("name", ["cosine", "macl", "mmts"])
def test_schedules_may_be_weight_and_bias(name):
    x, y = batch()
    for loss_fn in (
        tt.InfoNCE(0.3, weight=CONTROLS[name](unchanged)),
        tt.SigLIP(0.3, bias=-1 * CONTROLS[name](unchanged)),
    ):
        loss_fn(x, y, INDEX).backward()
        assert bool(x.grad.isfinite().all())


PAIRED = [name for name, row in TABLE.items() if row["infonce-eq"] == "r"]
DUAL = ["individual", "individual-adam", "tempnet", "tempnet+cosine", "2*tempnet"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        (name, loss)
        for name in PAIRED
        for loss in ("infonce", "infonce-rw", "dcl", "siglip")
        if TABLE[name][loss] != "r"
    ]
    + [(name, loss) for name in DUAL for loss in ("infonce", "infonce-rw", "dcl", "dcl-eq")]
    + [("constant", "infonce-rw")],
)
def test_labels_where_one_positive_is_needed_are_refused_with_the_remedy(name, loss, training):
    x, y = batch()
    loss_fn = build(loss, CONTROLS[name](unchanged)).train(training)
    labels = torch.tensor([0, 1, 0, 2, 1])
    with pytest.raises(ValueError, match="one positive for each anchor: pass labels as same="):
        loss_fn(x, y, INDEX, labels=labels)
    assert bool(loss_fn(x, y, INDEX, same=labels).isfinite())


@pytest.mark.parametrize("name", ["constant", "learnable", "mmts", "tau", "macl"])
def test_labels_with_a_temperature_of_anchors_are_taken(name):
    x, y = batch()
    loss_fn = build("infonce", CONTROLS[name](unchanged))
    assert bool(loss_fn(x, y, INDEX, labels=torch.tensor([0, 1, 0, 2, 1])).isfinite())


@pytest.mark.parametrize(
    "name", ["macl", "tempnet", "tau", "dystress", "temo", "macl+cosine", "2*tempnet", "tau.clamp"]
)
def test_values_that_follow_from_the_batch_are_in_last_tau(name):
    x, y = batch()
    control = CONTROLS[name](unchanged).double()
    loss_fn = build("infonce", control)
    assert loss_fn.last_tau is None
    for ask in (control.at, loss_fn.tau, lambda i: loss_fn.tau((i, i))):
        with pytest.raises(ValueError, match=r"from the batch's embeddings.*loss_fn\.last_tau"):
            ask(INDEX)
    loss_fn(x, y, INDEX)
    expected = temperatures(control, x, y)["x2y"].diagonal()
    ids, tau = loss_fn.last_tau
    assert torch.equal(ids, INDEX)
    torch.testing.assert_close(tau, expected)
    assert not tau.requires_grad


@pytest.mark.parametrize("name", ["constant", "learnable", "mmts", "individual", "1/learnable"])
def test_values_of_samples_are_in_tau_and_in_last_tau(name):
    x, y = batch()
    loss_fn = build("infonce", CONTROLS[name](unchanged))
    loss_fn(x, y, INDEX)
    torch.testing.assert_close(loss_fn.last_tau[1], loss_fn.tau(INDEX).double())


def test_a_control_that_brings_its_rho_sets_it_and_a_contradiction_is_refused():
    for control in (individual(), tempnet(), 2 * tempnet() + tt.Cosine(-0.05, 0.05, 6)):
        assert tt.SogCLR(N, control).rho == RHO
        assert tt.SogCLR(N, control, rho=RHO).rho == RHO
        with pytest.raises(ValueError, match=r"brings rho=0.7, but the loss got 1"):
            tt.SogCLR(N, control, rho=1.0)


@pytest.mark.parametrize(
    ("version", "control", "rho"),
    [
        ("v1", lambda: tt.Constant(0.3), 0.0),
        ("v2", lambda: individual(lr=0.0133, adam=(0.9, 0.999)), RHO),
        ("v3", lambda: tt.Learnable(0.3, 0.05, 0.9), RHO),
    ],
)
def test_fastclip_is_sogclr_with_such_a_control(version, control, rho):
    options = {"rho": rho} if rho else {}
    fast = tt.FastCLIP(N, version, 0.4, tau_init=0.3, tau_range=(0.05, 0.9), epsilon=0.0, **options)
    own = tt.SogCLR(N, control(), 0.4, rho)
    if version == "v2":
        fast.strength.load_state_dict(own.strength.state_dict())
    for seed in range(3):
        x, y = batch(seed)
        values = [loss_fn(x, y, INDEX) for loss_fn in (fast, own)]
        torch.testing.assert_close(*values, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            *(torch.autograd.grad(v, (x, y)) for v in values), rtol=1e-12, atol=0
        )
        for loss_fn in (fast, own):
            loss_fn.step()
    assert math.isfinite(float(values[0].detach()))
    state, other = fast.state_dict(), own.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)

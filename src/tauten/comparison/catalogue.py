"""The controls that can be compared, as temperatures of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tauten.comparison.methods import Method, OneOf, Settings, Uniform

TAU = Uniform(0.02, 0.3, log=True)
RHO = Uniform(0.5, 8.0, log=True)
RATE = Uniform(3e-4, 3e-2, log=True)
GAMMA = OneOf((0.2, 0.5, 0.8))
PERIODS = OneOf((0.5, 1.0, 2.5, 5.0))


def mmts_settings(values: Settings) -> Settings:
    """Return level, spread over classes as a share of it,
    and oscillation as a share of the lowest.
    """
    low = values["level"] * (1 - values["spread"] / 2)
    high = values["level"] * (1 + values["spread"] / 2)
    return {
        "control.shift_low": _digits(low),
        "control.shift_high": _digits(high),
        "control.alpha": _digits(2 * low * values["amplitude"]),
        "control.oscillations": values["oscillations"],
        "control.scale": values["scale"],
    }


def band_settings(values: Settings) -> Settings:
    """Return a lower end and its ratio to the upper end, and what else was drawn."""
    rest = {name: value for name, value in values.items() if "." in name}
    high = _digits(values["low"] * values["ratio"])
    return {"control.low": values["low"], "control.high": high} | rest


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


_SCHEDULE = {"control.kind": "mmts"}
_OWN_RANGE = {"control.low": 0.01, "control.high": 1.0}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "constant",
            "one temperature",
            {"control.kind": "constant"},
            {"control.value": 0.07},
            {"control.value": TAU},
        ),
        Method(
            "learnable",
            "one temperature, learned by the loss",
            {"control.kind": "learnable", **_OWN_RANGE},
            {"control.value": 0.07},
            {"control.value": TAU, "optim.loss_lr": RATE},
        ),
        Method(
            "mmts",
            "MM-TS: by class size and over time",
            _SCHEDULE,
            {
                "control.alpha": 0.08,
                "control.shift_low": 0.05,
                "control.shift_high": 0.20,
                "control.oscillations": 5.0,
                "control.scale": "linear",
            },
            {
                "level": TAU,
                "spread": Uniform(0.1, 1.2),
                "amplitude": Uniform(0.05, 0.8),
                "oscillations": PERIODS,
                "scale": OneOf(("linear", "sqrt", "log")),
            },
            mmts_settings,
        ),
        Method(
            "matched",
            "the constant equal to the schedule's mean over time and samples",
            {"control.kind": "matched"},
            parts_of="mmts",
        ),
        Method(
            "ts",
            "the schedule's oscillation alone (TS)",
            {**_SCHEDULE, "control.part": "oscillation"},
            parts_of="mmts",
        ),
        Method(
            "ics",
            "the schedule's shift by class size alone (ICS)",
            {**_SCHEDULE, "control.part": "shift"},
            parts_of="mmts",
        ),
        Method(
            "shuffled",
            "the schedule with the sizes of classes exchanged at random",
            {**_SCHEDULE, "control.sizes": "shuffled"},
            parts_of="mmts",
        ),
        Method(
            "noise",
            "the schedule with the sizes of samples exchanged at random",
            {**_SCHEDULE, "control.sizes": "noise"},
            parts_of="mmts",
        ),
        Method(
            "reversed",
            "the schedule with high values for rare classes",
            {**_SCHEDULE, "control.sizes": "reversed"},
            parts_of="mmts",
        ),
        Method(
            "weight-only",
            "the matched constant, anchors weighted by 1/τ_i of the schedule",
            {"control.kind": "matched", "loss.weight": "inverse_tau"},
            parts_of="mmts",
        ),
        Method(
            "shape-only",
            "the schedule with its effect on the size of the force divided out",
            {**_SCHEDULE, "loss.force": "equalized"},
            parts_of="mmts",
        ),
        Method(
            "anneal",
            "once from high to low",
            {"control.kind": "anneal"},
            {"control.low": 0.05, "control.high": 0.2},
            {"low": Uniform(0.02, 0.15, log=True), "ratio": Uniform(1.2, 4.0)},
            band_settings,
        ),
        Method(
            "dystress",
            "DySTreSS: by the similarity of each pair",
            {"control.kind": "dystress"},
            {
                "control.low": 0.1,
                "control.high": 0.2,
                "control.peak": 1.0,
                "control.width": 1.0,
            },
            {
                "low": Uniform(0.02, 0.2, log=True),
                "ratio": Uniform(1.1, 2.0),
                "control.peak": OneOf((0.4, 0.7, 1.0)),
                "control.width": OneOf((0.7, 1.0)),
            },
            band_settings,
        ),
        Method(
            "temo",
            "TeMo: by the similarity of each pair",
            {"control.kind": "temo"},
            {"control.low": 0.01, "control.high": 0.03},
            {"low": Uniform(0.01, 0.15, log=True), "ratio": Uniform(1.1, 3.0)},
            band_settings,
        ),
        Method(
            "macl",
            "MACL: by the alignment of the batch",
            {"control.kind": "macl"},
            {"control.value": 0.1, "control.slope": 0.5, "control.threshold": 0.0},
            {
                "control.value": TAU,
                "control.slope": Uniform(0.1, 0.9),
                "control.threshold": Uniform(0.0, 0.8),
            },
        ),
        Method(
            "tau-uncertainty",
            "TaU: predicted for each embedding",
            {"control.kind": "tau_uncertainty"},
            {"control.value": 0.07, "control.high": 10.0},
            {
                "control.value": Uniform(0.01, 0.15, log=True),
                "control.high": OneOf((1.0, 10.0)),
                "optim.loss_lr": RATE,
            },
        ),
        Method(
            "sogclr",
            "SogCLR with one temperature",
            {"family": "sogclr", "control.kind": "constant"},
            {"control.value": 0.07, "loss.gamma": 0.8},
            {"control.value": TAU, "loss.gamma": GAMMA},
            schedules=False,
        ),
        Method(
            "isogclr",
            "iSogCLR: learned for each sample by the robust objective",
            {"family": "isogclr", "control.kind": "individual", **_OWN_RANGE},
            {"control.value": 0.07, "loss.gamma": 0.8, "control.rho": 6.0, "control.lr": 0.03},
            {
                "control.value": TAU,
                "loss.gamma": GAMMA,
                "control.rho": RHO,
                "control.lr": Uniform(3e-3, 1e-1, log=True),
            },
            schedules=False,
        ),
        Method(
            "tempnet",
            "TempNet: predicted from the embedding by the robust objective",
            {"family": "sogclr", "control.kind": "tempnet"},
            {"control.low": 0.005, "control.high": 0.05, "loss.gamma": 0.8, "control.rho": 7.0},
            {
                "low": Uniform(0.005, 0.05, log=True),
                "ratio": Uniform(4.0, 16.0),
                "loss.gamma": GAMMA,
                "control.rho": RHO,
                "optim.loss_lr": RATE,
            },
            band_settings,
            schedules=False,
        ),
        *(
            Method(
                f"fastclip-{version}",
                what,
                {
                    "family": "fastclip",
                    "loss.version": version,
                    "control.kind": kind,
                    **({} if kind == "constant" else _OWN_RANGE),
                },
                {"control.value": start, "loss.gamma": 0.2, **default},
                {"control.value": TAU, "loss.gamma": GAMMA, **space},
                schedules=False,
            )
            for version, kind, what, start, default, space in (
                ("v1", "constant", "FastCLIP with one temperature", 0.07, {}, {}),
                (
                    "v2",
                    "individual",
                    "FastCLIP, learned for each sample",
                    0.03,
                    {"control.rho": 7.0},
                    {"control.rho": RHO, "control.lr": Uniform(3e-4, 3e-2, log=True)},
                ),
                (
                    "v3",
                    "learnable",
                    "FastCLIP, one temperature learned by the robust objective",
                    0.07,
                    {"loss.rho": 6.5},
                    {"loss.rho": RHO, "optim.loss_lr": RATE},
                ),
            )
        ),
    )
}


def get(names: Sequence[str], methods: Mapping[str, Method] = METHODS) -> list[Method]:
    """Return the methods of these names, in their order.

    Args:
        names: names of controls.
        methods: those that there are, see :func:`tauten.comparison.kinds.methods_of`.

    Raises:
        ValueError: none, one twice, an unknown one, with those that there are, or one that means
            nothing here, with the reason.
    """
    unknown = [name for name in names if name not in methods]
    if unknown or not names:
        raise ValueError(
            f"unknown controls {', '.join(unknown) or '(none given)'}; there are "
            f"{', '.join(methods)}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"each control once, got {', '.join(names)}")
    for name in names:
        if methods[name].refused:
            raise ValueError(f"{name} cannot be compared here: {methods[name].refused}")
    return [methods[name] for name in names]

"""Configurations of earlier versions as those of this one."""

from __future__ import annotations

from typing import Any

from tauten.training.specs import known_controls, known_losses

#: options that once stood in every configuration, whatever its control and loss
_CONTROL = (
    "value",
    "low",
    "high",
    "alpha",
    "shift_low",
    "shift_high",
    "oscillations",
    "every",
    "scale",
    "part",
    "sizes",
    "peak",
    "width",
    "slope",
    "threshold",
)
_LOSS = (
    "force",
    "weight",
    "adaptive",
    "mask_duplicates",
    "bias",
    "version",
    "gamma",
    "gamma_epochs",
    "rho",
    "tau_lr",
    "tau_beta",
    "tau_clip",
    "zeta_lr",
    "queue",
    "momentum",
)
#: options of learned temperatures that once stood with the loss
_MOVED = {"rho": "rho", "tau_lr": "lr", "tau_beta": "beta", "tau_clip": "max_gradient"}
_FASTCLIP_V2_RHO = 7.0


def upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration tree of any version as one of this version.

    Options of other controls and losses, which earlier versions wrote into every configuration, are
    left out, and those that have moved are where they belong.
    """
    tree = dict(tree)
    if "loss" not in tree and "control" not in tree:
        return tree
    loss, control = dict(tree.get("loss") or {}), dict(tree.get("control") or {})
    kind, family = str(control.get("kind", "constant")), str(tree.get("family", "infonce"))
    takes = known_controls().get(kind)
    made = known_losses().get(family)
    if "tau_lr" in loss or "tau_beta" in loss:
        if takes is not None:
            moved = {new: loss[old] for old, new in _MOVED.items() if loss.get(old) is not None}
            if family == "fastclip":
                moved.pop("beta", None)
                moved.pop("max_gradient", None)
                if kind == "individual":
                    moved.setdefault("rho", _FASTCLIP_V2_RHO)
                    loss["rho"] = None
            control |= {name: v for name, v in moved.items() if name in takes.option_names()}
        if family == "sogclr" and loss.get("rho") is None:
            loss["rho"] = 0.0
        if family == "sogclr" and kind in ("tempnet", "individual"):
            loss["rho"] = 0.0
    if takes is not None:
        names = {"kind", *takes.option_names()}
        control = {n: v for n, v in control.items() if n in names or n not in _CONTROL}
    if made is not None:
        loss = {n: v for n, v in loss.items() if n in made.option_names() or n not in _LOSS}
    return tree | {"loss": loss, "control": control}

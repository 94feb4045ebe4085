"""Settings of a grid of trainings, and checks that it can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tauten.comparison import catalogue
from tauten.comparison.cells import Runner
from tauten.comparison.kinds import Kind, families, kind_of, methods_of, usual
from tauten.comparison.methods import Method, Settings, configure
from tauten.comparison.shared import check_settings
from tauten.comparison.synthetic import SyntheticConfig, groups_for
from tauten.comparison.tested import tested_by
from tauten.outcome import Metrics
from tauten.recipes import get
from tauten.recipes.emoji import EPOCHS, emoji
from tauten.training import Config, specs
from tauten.training.options.config_tree import changed

DEFAULT, TUNED = "default", "tuned"
Mode = Literal["auto", "frozen", "train"]


@dataclass
class Grid:
    """Settings of a comparison: what is compared, and how.

    Attributes:
        output: the only folder written to.
        recipe: "synthetic", "emoji", or a recipe of ``tauten train``, whose data, model and
            optimiser all cells share.
        controls: names out of :attr:`catalogue`; () for the usual ones of its kind.
        baseline: the one that all are compared with.
        seeds: seeds of each setting.
        mode: "frozen", heads on fixed features; "train", end to end; "auto", end to end except for
            synthetic data and given features. Two views are always trained end to end.
        trials: settings tried for each control on the validation split, the default among them.
        tried: settings by control to try in the place of those drawn; whatever ``trials`` is, all
            of them are, beside the default.
        force: force of the schedules' loss.
        family: of the schedules' loss: infonce, dcl, maxmargin, whose margin they drive, ...; by
            default that of the recipe if it is one of them, else infonce.
        hidden: width of a hidden layer in the heads; 0 for linear heads.
        features: a file of features to use instead of the recipe's data.
        synthetic: what synthetic pairs are like.
        settings: options of the training configuration by name, for all cells.
        processes: workers.
        threads: threads of torch in each; by default the cores divided by the processes.
        progress: show a bar.
    """

    output: Path
    recipe: str = "emoji"
    controls: Sequence[str] = ()
    baseline: str = "constant"
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    mode: Mode = "auto"
    trials: int = 6
    tried: Mapping[str, Sequence[Settings]] = field(default_factory=dict)
    force: str = "plain"
    family: str | None = None
    hidden: int = 0
    features: Path | None = None
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    settings: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1
    threads: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.controls:
            self.controls = usual(self.kind)

    @property
    def kind(self) -> Kind:
        """Kind of what the schedules drive: temperature, margin, or temperature of two views."""
        return kind_of(self.base())

    @property
    def catalogue(self) -> Mapping[str, Method]:
        """The controls that there are, with their settings for this kind."""
        known = methods_of(self.kind)
        tried = {name: known[name].trying(given) for name, given in self.tried.items()}
        return {**known, **tried}

    @property
    def tuning(self) -> str:
        """Return in words how many settings are tried, and where they come from."""
        drawn = f"{self.trials} settings drawn at random, the default among them"
        listed = [f"{len(given)} of {name}" for name, given in self.tried.items()]
        if not listed:
            return drawn
        others = {method.parts_of or method.name for method in self.methods()} - {*self.tried}
        return f"the default and those listed: {', '.join(listed)}" + (
            f"; for {', '.join(sorted(others))} {drawn}" if others else ""
        )

    @property
    def tested(self) -> Metrics:
        """Return the metrics of the test queries."""
        return tested_by(self.base(), whole=self.runner == "train")

    @property
    def runner(self) -> Runner:
        """Way in which cells are trained."""
        if self.mode != "auto":
            return self.mode
        frozen = self.recipe == "synthetic" or self.features is not None
        return "frozen" if frozen else "train"

    def methods(self) -> list[Method]:
        """Return the controls, the baseline first.

        Raises:
            ValueError: an unknown control or one that means nothing for this kind, a baseline that
                is not among them, or a force or family that does not go with them.
        """
        if self.baseline not in self.controls:
            raise ValueError(
                f"the baseline {self.baseline!r} is not among the controls "
                f"{', '.join(self.controls)}"
            )
        if self.force not in ("plain", "equalized") or self.family not in (None, *families()):
            raise ValueError(
                f"force must be plain or equalized and family one of {', '.join(families())}, got "
                f"{self.force} and {self.family}"
            )
        apart = [name for name in self.controls if name in ("weight-only", "shape-only")]
        if self.force != "plain" and apart:
            raise ValueError(f"{', '.join(apart)} take the plain force apart, got {self.force}")
        methods = catalogue.get(list(self.controls), self.catalogue)
        return sorted(methods, key=lambda method: method.name != self.baseline)

    def check(self) -> None:
        """Refuse what cannot be run, before any work.

        Raises:
            ValueError: with the reason.
        """
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be 1 or more, each once, got {list(self.seeds)}")
        for name, least in (("processes", 1), ("trials", 1), ("threads", 1), ("hidden", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")
        if self.runner == "train" and (self.recipe == "synthetic" or self.features is not None):
            raise ValueError("synthetic data and features have no towers: mode must be frozen")
        base, known, methods = self.base(), self.catalogue, self.methods()
        check_settings(self)
        if base.task == "views" and self.runner == "frozen":
            raise ValueError("two views train the tower itself: mode must be train, not frozen")
        for method in methods:
            try:
                configure(base, method, known[method.parts_of or method.name].default)
            except ValueError as error:
                raise ValueError(f"{method.name} cannot be compared here: {error}") from error

    def base(self) -> Config:
        """Return the configuration that all cells share, before their control.

        Raises:
            ValueError: an unknown recipe or setting.
        """
        if self.recipe in ("emoji", "synthetic"):
            config = emoji(EPOCHS, specs.control(), specs.loss())
        else:
            config = get(self.recipe)()
        family = config.family if config.family in families() else "infonce"
        config = changed(config, {"family": self.family or family})
        if self.force != "plain" or "force" in config.loss.option_names():
            config = changed(config, {"loss.force": self.force})
        config.data.source = self.recipe if self.recipe == "synthetic" else config.data.source
        config.evaluation.bootstrap = 0
        if config.task == "views":
            config.evaluation.probe = "none"
        config.progress = config.tensorboard = False
        if self.runner == "frozen":
            config.model.dim = 64 if self.recipe == "synthetic" else 256
            config.optim.batch_size, config.optim.epochs = 256, 15.0
            config.optim.lr, config.optim.weight_decay = 2e-3, 0.5
        if self.recipe == "synthetic":
            config.data.head, config.data.tail = groups_for(self.synthetic)
        # those of controls are refused by name once the controls are known
        shared = {name: v for name, v in self.settings.items() if not name.startswith("control.")}
        return changed(config, shared)

"""Two views of one modality on a long tail: SimCLR, TS, MM-TS by class size, iSogCLR, MoCo.

``caltech98_lt_*`` train in minutes on two CPU cores; the others are published rows, for a GPU.
Splits of different families do not compare: the rows of TS are on the CIFAR-LT of SDCLR, those of
iSogCLR on the CIFAR-LT of LDAM.
"""

from __future__ import annotations

from functools import partial

from tauten.recipes.recipe import Recipe
from tauten.spec import ControlSpec, LossSpec
from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)

#: settings of the small runs; chosen by hand, not searched
CONSTANT = {"value": 0.2}
MMTS = {"alpha": 0.1, "shift_low": 0.15, "shift_high": 0.3, "oscillations": 2.0}
INDIVIDUAL = {
    "value": 0.1,
    "low": 0.05,
    "high": 1.0,
    "rho": 0.4,
    "lr": 0.03,
    "beta": 0.5,
    "max_gradient": 3.0,
}
SPLIT = "and SDCLR's index files, without which the images are not those of split 1."
SPLIT_1 = "Kukleva et al., ICLR 2023, split 1, notebook of the released checkpoint"


def _ts(oscillations: float) -> ControlSpec:
    """Return TS (Kukleva et al., ICLR 2023): 1.0 to 0.1 and back, by epoch, so many times."""
    return specs.control("cosine", low=0.1, high=1.0, oscillations=oscillations, every="epoch")


def _individual() -> ControlSpec:
    """Return iSogCLR of one modality (Qiu et al., ICML 2023), with the settings of CIFAR100."""
    return specs.control("individual", **INDIVIDUAL)


def _data(name: str) -> DataConfig:
    return DataConfig(source=f"{name}:data/{name}", label="label", groups="thirds")


def _small(epochs: float, control: ControlSpec, loss: LossSpec | None = None) -> Config:
    """Configure a small tower on caltech98_lt."""
    return Config(
        task="views",
        control=control,
        data=_data("caltech98_lt"),
        model=ModelConfig(channels=(32, 64, 128), grid=2, dim=128),
        loss=loss or specs.loss(),
        optim=OptimConfig(epochs=epochs, batch_size=256, lr=2e-3, weight_decay=1e-4),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 5), metric="knn@10/class_mean"),
    )


def _published(epochs: float, dataset: str, control: ControlSpec) -> Config:
    """Configure ResNet-18 with the stem for CIFAR, the optimiser of TS, the last checkpoint."""
    return Config(
        task="views",
        control=control,
        data=_data(dataset),
        model=ModelConfig(image="resnet18-cifar", dim=128),
        optim=OptimConfig(
            name="sgd",
            epochs=epochs,
            batch_size=512,
            lr=0.5,
            min_lr=1e-6,
            weight_decay=1e-4,
            warmup=min(1.0, 10 / epochs),
        ),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 20), metric="last"),
    )


def _isogclr(epochs: float, dataset: str) -> Config:
    """Configure the views, optimiser and probe of iSogCLR for CIFAR."""
    config = _published(epochs, dataset, _individual())
    config.loss = specs.loss("isogclr", gamma=0.8)
    config.model.views.crop, config.model.views.blur = 0.2, 0.5
    config.optim = OptimConfig(
        name="lars",
        epochs=epochs,
        batch_size=128,
        lr=0.8,
        min_lr=0.8e-3,
        weight_decay=5e-4,
        warmup=min(1.0, 10 / epochs),
    )
    config.evaluation.probe = "sgd"
    return config


_small_row = partial(Recipe, epochs=16.0, remark="the settings were chosen by hand.")
_caltech = "--data caltech98_lt:FOLDER --output runs/"


@partial(_small_row, options=f"{_caltech}simclr")
def caltech98_lt_simclr(epochs: float) -> Config:
    """caltech98_lt, SimCLR with a constant τ = 0.2."""
    return _small(epochs, specs.control("constant", **CONSTANT))


@partial(_small_row, options=f"{_caltech}ts")
def caltech98_lt_ts(epochs: float) -> Config:
    """caltech98_lt, SimCLR with TS: one τ from 1.0 to 0.1 and back, by epoch, twice."""
    return _small(epochs, _ts(2.0))


@partial(_small_row, options=f"{_caltech}mmts")
def caltech98_lt_mmts(epochs: float) -> Config:
    """caltech98_lt, SimCLR with MM-TS: τ by the size of the image's class and over time."""
    return _small(epochs, specs.control("mmts", **MMTS))


@partial(_small_row, options=f"{_caltech}isogclr")
def caltech98_lt_isogclr(epochs: float) -> Config:
    """caltech98_lt, iSogCLR: a temperature learned for each image."""
    return _small(epochs, _individual(), specs.loss("isogclr", gamma=0.8))


@partial(_small_row, options=f"{_caltech}moco")
def caltech98_lt_moco(epochs: float) -> Config:
    """caltech98_lt, MoCo with τ = 0.2: a queue of 2,048 keys of a momentum encoder."""
    loss = specs.loss("infonce", queue=2048, momentum=0.99)
    config = _small(epochs, specs.control("constant", **CONSTANT), loss)
    config.model.projector = "linear"
    return config


@partial(
    Recipe,
    epochs=2000.0,
    options="--data cifar10_lt_sdclr:FOLDER --output runs/simclr",
    remark="no figure is known to us.",
    settings="those of cifar10_lt_ts but for τ.",
)
def cifar10_lt_simclr(epochs: float) -> Config:
    """CIFAR10-LT of SDCLR, SimCLR with a constant τ = 0.2, the baseline of TS."""
    return _published(epochs, "cifar10_lt_sdclr", specs.control("constant", **CONSTANT))


@partial(
    Recipe,
    epochs=2000.0,
    options="--data cifar10_lt_sdclr:FOLDER --output runs/ts",
    data=f"CIFAR-10 {SPLIT}",
    published="kNN@1 61.21, kNN@10 61.20, FS 71.49, LT 62.92",
    source=SPLIT_1,
    remark="Here these are ``knn@1/class_mean``, ``knn@10/class_mean``, ``linear_fs`` and "
    "``linear_lt``.",
    settings="ResNet-18, batch 512, 2,000 epochs, SGD of rate 0.5, the last checkpoint.",
    choice="colour changes in a fixed order, with hue in YIQ.",
)
def cifar10_lt_ts(epochs: float) -> Config:
    """CIFAR10-LT of SDCLR, TS: SimCLR with one τ from 1.0 to 0.1 and back over 400 epochs."""
    return _published(epochs, "cifar10_lt_sdclr", _ts(5.0))


@partial(
    Recipe,
    epochs=2000.0,
    options="--data cifar100_lt_sdclr:FOLDER --output runs/ts100",
    data=f"CIFAR-100 {SPLIT}",
    published="kNN@1 29.12, kNN@10 28.11, FS 27.02, LT 32.29",
    source=SPLIT_1,
    settings="those of cifar10_lt_ts.",
    choice="as there.",
)
def cifar100_lt_ts(epochs: float) -> Config:
    """CIFAR100-LT of SDCLR, TS: SimCLR with one τ from 1.0 to 0.1 and back over 400 epochs."""
    return _published(epochs, "cifar100_lt_sdclr", _ts(5.0))


@partial(
    Recipe,
    epochs=800.0,
    options="--data imagenet100_lt:FOLDER --output runs/ts_in100",
    data="ImageNet (ILSVRC2012) and SDCLR's lists.",
    published="kNN@1 38.38, kNN@10 38.98, FS 45.18, LT 47.26",
    source="Kukleva et al., ICLR 2023, notebook of the released checkpoint",
    settings="ResNet-50, batch 256, 800 epochs, SGD of rate 0.5, the last checkpoint.",
    choice="images are resized to squares before views are cropped; ``linear_fs`` has as many "
    "images of each class as its rarest, where the published FS has 12 of each from a list.",
)
def imagenet100_lt_ts(epochs: float) -> Config:
    """ImageNet100-LT of SDCLR, TS: SimCLR with one τ from 1.0 to 0.1 and back over 400 epochs."""
    config = _published(epochs, "imagenet100_lt", _ts(2.0))
    config.model.image, config.optim.batch_size = "resnet50", 256
    config.model.views.crop, config.model.views.blur = 0.08, 0.5
    config.data.image_size, config.data.groups, config.data.head = 224, "counts", 101
    return config


@partial(
    Recipe,
    epochs=400.0,
    options="--data cifar10_lt_isogclr:FOLDER --output runs/isogclr",
    remark="no figure is known to us.",
    settings="ResNet-18, batch 128, 400 epochs, LARS of rate 0.8, the last checkpoint; ρ = 0.4, "
    "the published one for CIFAR-100.",
    choice="a tenth of the 12,406 training images is held out for validation, where the paper "
    "trains on all; images are not normalised; colour changes in a fixed order, with hue in YIQ.",
)
def cifar10_lt_isogclr(epochs: float) -> Config:
    """CIFAR10-LT of LDAM, iSogCLR (Qiu et al., ICML 2023): each image learns a temperature."""
    return _isogclr(epochs, "cifar10_lt_isogclr")


@partial(
    Recipe,
    epochs=400.0,
    options="--data cifar100_lt_isogclr:FOLDER --output runs/iso",
    remark="no figure is known to us.",
    settings="those of cifar10_lt_isogclr.",
    choice="as there, of 10,847 training images.",
)
def cifar100_lt_isogclr(epochs: float) -> Config:
    """CIFAR100-LT of LDAM, iSogCLR (Qiu et al., ICML 2023): each image learns a temperature."""
    return _isogclr(epochs, "cifar100_lt_isogclr")

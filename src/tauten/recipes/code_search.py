"""Code search on the standard library: from a docstring to its function, by MRR.

The setting is that of CodeSearchNet and CoCoSoDa (Shi et al., ICSE 2023); the data are those of the
installed Python, whose modules are a long tail of classes.
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

_row = partial(
    Recipe,
    epochs=10.0,
    data="nothing to get: the functions of the installed Python; --data python_functions:FOLDER "
    "for those of another library.",
    choice="all: a bag of words for both sides, 10 epochs, batch 128, τ = 0.07 as CoCoSoDa.",
)


def _code(epochs: float, control: ControlSpec, loss: LossSpec) -> Config:
    return Config(
        control=control,
        data=DataConfig(
            source="python_functions:",
            texts=True,
            image="docstring",
            caption="code",
            label="label",
        ),
        model=ModelConfig(text_width=256, dim=256, max_tokens=128),
        loss=loss,
        optim=OptimConfig(epochs=epochs, batch_size=128, lr=5e-3),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 5), metric="x2y/MRR"),
    )


@partial(_row, remark="it is the baseline of the other recipes of code search.")
def code_search(epochs: float) -> Config:
    """Docstrings to functions of the standard library, InfoNCE on the batch, τ = 0.07."""
    return _code(epochs, specs.control("constant", value=0.07), specs.loss("infonce"))


@partial(
    _row,
    settings="τ = 0.07, a queue and a momentum encoder (CoCoSoDa).",
    choice="as of code_search; a queue of 1,024 keys of each side, momentum 0.99. Keys of both "
    "sides are the momentum encoder's; masked views and directions within a side are left out.",
)
def code_search_queue(epochs: float) -> Config:
    """Docstrings to functions, with queues of both sides and a momentum encoder."""
    loss = specs.loss("infonce", queue=1024, momentum=0.99)
    return _code(epochs, specs.control("constant", value=0.07), loss)


@partial(_row, remark="its mean over samples and steps is τ = 0.068.")
def code_search_mmts(epochs: float) -> Config:
    """Docstrings to functions, MM-TS: τ by size of the module and over time."""
    control = specs.control("mmts", alpha=0.02, shift_low=0.06, shift_high=0.09, oscillations=5.0)
    return _code(epochs, control, specs.loss("infonce"))

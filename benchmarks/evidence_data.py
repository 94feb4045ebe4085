"""Features that ``evidence.py`` trains on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from tauten.comparison.cells import FEATURES
from tauten.comparison.features import Features, FeatureSplit, load, of_pairs, save
from tauten.structure import kmeans
from tauten.training import DataConfig
from tauten.training.stores.splits import SPLITS, load_splits

DATA = {"emoji": "emoji_lt", "photos": "caltech98_lt"}


def prepared(path: Path, made: Path | None, photos: Path | None = None) -> Features:
    """Features from a file, made where there is none."""
    if made is not None:
        return load(made)
    if not path.exists():
        if photos is None:
            splits = load_splits(DataConfig())
        else:
            splits = load_splits(DataConfig(f"caltech98_lt:{photos}", label="label", image_size=64))
            splits = {
                name: dataclasses.replace(
                    split, captions=[[f"a photo of a {label}"] for label in split.labels or ()]
                )
                for name, split in splits.items()
            }
        save(of_pairs(DATA["photos" if photos else "emoji"], splits), path)
    return load(path)


def put(features: Features, folder: Path) -> None:
    """The features where a study looks for them, unless there are the same already."""
    path = folder / FEATURES
    if not path.exists() or load(path).fingerprint != features.fingerprint:
        save(features, path)


def validation(features: Features) -> Features:
    """The validation split in the place of the test split."""
    splits = dict(features.splits)
    return Features(f"{features.name} val", splits | {"test": splits["val"]})


def sizes(features: Features) -> Tensor:
    """(N,) size of each training sample's class."""
    labels = features["train"].labels
    return features.classes(1, 1).per_sample(labels)


def by_clusters(features: Features, k: int) -> Features:
    """Spherical k-means of the training captions in the place of the classes."""
    train = features["train"]
    captions = torch.tensor([own[0] for own in train.y_of_x])
    clusters = kmeans(train.y[captions], k, seed=0, starts=1)
    centroids = clusters.centroids

    def relabelled(split: FeatureSplit) -> FeatureSplit:
        y = torch.nn.functional.normalize(split.y, dim=1)
        nearest = (y @ centroids.T).argmax(dim=1)
        own = torch.tensor([mine[0] for mine in split.y_of_x])
        return dataclasses.replace(split, labels=[str(c) for c in nearest[own].tolist()])

    splits = {name: relabelled(features[name]) for name in SPLITS}
    splits["train"] = dataclasses.replace(
        train, labels=[str(c) for c in clusters.assignment.tolist()]
    )
    return Features(f"{features.name} {k} clusters", splits)

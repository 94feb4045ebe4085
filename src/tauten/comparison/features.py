"""Features of both sides of every split, computed once, on which heads alone are trained."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tauten.files import read_arrays, write_npz
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import SPLITS, PairData, Split
from tauten.training.stores.rows import UNLABELLED

_IMAGE_SIDE = 96
_AT_A_TIME = 128


@dataclass(frozen=True)
class FeatureSplit:
    """One split.

    Attributes:
        x: (N, d_x) float32, one row per image (or other first side).
        y: (M, d_y) float32, one row per different caption.
        y_of_x: for each x the positions of its y's, at least one.
        labels: (N,) class of each x.
        same: (N,) long, equal where the first sides are known to be the same.
    """

    x: Tensor
    y: Tensor
    y_of_x: list[list[int]]
    labels: list[str]
    same: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __post_init__(self) -> None:
        sizes = {len(self.x), len(self.y_of_x), len(self.labels), len(self.same)}
        if len(sizes) > 1 or not len(self.x):
            raise ValueError(
                f"a split needs as many x, y_of_x, labels and same ids, at least one, got "
                f"{len(self.x)}, {len(self.y_of_x)}, {len(self.labels)} and {len(self.same)}"
            )
        for name, side in (("x", self.x), ("y", self.y)):
            if not bool(side.isfinite().all()):
                bad = int((~side.isfinite()).any(dim=1).sum())
                raise ValueError(f"{name} has NaN or infinite features in {bad} of {len(side)}")


@dataclass(frozen=True)
class Features:
    """All splits.

    Attributes:
        name: name of the data.
        splits: by name: train, val, test.
        truth: arrays that only the maker of synthetic data can know, by name.
    """

    name: str
    splits: Mapping[Split, FeatureSplit]
    truth: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, split: Split) -> FeatureSplit:
        return self.splits[split]

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        digest = hashlib.sha256()
        for name, array in _arrays(self).items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def classes(self, head: int, tail: int) -> Classes:
        """Return the long tail of the training split."""
        return Classes(dict(Counter(self["train"].labels)), head, tail)


def save(features: Features, path: Path) -> None:
    """Write features as one ``.npz``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, {"name": np.array(features.name), **_arrays(features)})


def load(path: Path) -> Features:
    """Load the features that :func:`save` wrote.

    Raises:
        ValueError: not such a file, with what is missing.
    """
    try:
        arrays = read_arrays(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no file of features: {error}") from error
    try:
        splits = {name: _split(arrays, name) for name in SPLITS}
        truth = {
            name.removeprefix("truth/"): torch.from_numpy(array)
            for name, array in arrays.items()
            if name.startswith("truth/")
        }
        return Features(str(arrays["name"]), splits, truth)
    except KeyError as error:
        raise ValueError(f"{path} is no file of features: it has no array {error}") from error
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path} is no file of features: {error}") from error


def _split(arrays: Mapping[str, Any], name: str) -> FeatureSplit:
    targets, offsets = arrays[f"{name}/y_of_x"], arrays[f"{name}/offsets"]
    candidates = len(arrays[f"{name}/y"])
    if len(targets) and not 0 <= targets.min() <= targets.max() < candidates:
        raise ValueError(
            f"{name}/y_of_x is from {targets.min()} to {targets.max()}, of {candidates} y"
        )
    return FeatureSplit(
        x=torch.from_numpy(arrays[f"{name}/x"]).float(),
        y=torch.from_numpy(arrays[f"{name}/y"]).float(),
        y_of_x=[part.tolist() for part in np.split(targets, offsets[1:-1])],
        labels=[str(label) for label in arrays[f"{name}/labels"]],
        same=torch.from_numpy(arrays[f"{name}/same"]),
    )


def _arrays(features: Features) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name in SPLITS:
        split = features[name]
        arrays[f"{name}/x"], arrays[f"{name}/y"] = split.x.numpy(), split.y.numpy()
        arrays[f"{name}/y_of_x"] = np.array([j for row in split.y_of_x for j in row], np.int64)
        arrays[f"{name}/offsets"] = np.cumsum([0, *map(len, split.y_of_x)])
        arrays[f"{name}/labels"] = np.array(split.labels, dtype=np.str_)
        arrays[f"{name}/same"] = split.same.numpy()
    return arrays | {f"truth/{name}": value.numpy() for name, value in features.truth.items()}


def of_pairs(name: str, splits: Mapping[Split, PairData], progress: bool = True) -> Features:
    """Compute features of image-text pairs by two fixed, pretrained towers that need no network.

    Images: the penultimate layer of EfficientNet-Lite0 (d = 1280). Captions: all-MiniLM-L6-v2
    (d = 384). Both are centred on the training split and scaled to a mean length of 1.

    Args:
        name: name of the data.
        splits: with labels, or caption clusters in their place.
        progress: show bars.

    Raises:
        ValueError: pairs without classes.
        ImportError: a package with the weights of a tower is not installed, named in the message.
    """
    from tauten.structure import embed_captions

    sides: dict[Split, tuple[Tensor, Tensor]] = {}
    for split, data in splits.items():
        if data.labels is None:
            raise ValueError(
                f"{name} has no classes: set data.label to a class column, or data.clusters to a "
                "number of caption clusters (--set data.label=COLUMN)"
            )
        if UNLABELLED in data.labels:
            raise ValueError(
                f"{data.labels.count(UNLABELLED)} of {len(data)} {split} samples of {name} have no "
                "class: label them, or leave those rows out"
            )
        captions, _ = data.unique_captions()
        x = _image_features(_in_memory(data), f"{split} images", progress)
        sides[split] = (x, embed_captions(captions, progress=False))
    sides = _standardised(sides)
    made: dict[Split, FeatureSplit] = {}
    for split, data in splits.items():
        x, y = sides[split]
        _, y_of_x = data.unique_captions()
        assert data.labels is not None
        made[split] = FeatureSplit(x, y, y_of_x, list(data.labels), _equal(_in_memory(data)))
    return Features(name, made)


def _in_memory(data: PairData) -> Tensor:
    if not isinstance(data.images, Tensor):
        raise ValueError("frozen features are of images, these are clips of videos")
    return data.images


def _standardised(
    sides: Mapping[Split, tuple[Tensor, Tensor]],
) -> dict[Split, tuple[Tensor, Tensor]]:
    middle = [side.mean(dim=0) for side in sides["train"]]
    length = [
        (side - mean).norm(dim=1).mean() for side, mean in zip(sides["train"], middle, strict=True)
    ]
    return {
        split: ((x - middle[0]) / length[0], (y - middle[1]) / length[1])
        for split, (x, y) in sides.items()
    }


def _equal(images: Tensor) -> Tensor:
    """Return (N,) long, the position of the first image with the same pixels."""
    first: dict[bytes, int] = {}
    keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    return torch.tensor([first.setdefault(key, i) for i, key in enumerate(keys)])


@torch.inference_mode()
def _image_features(images: Tensor, what: str, progress: bool) -> Tensor:
    """Return (N, 1280) pooled features, of images scaled up to what the tower was trained for."""
    from tauten.models import EfficientNetLite

    tower = EfficientNetLite.from_pretrained().eval()
    features = []
    for part in tqdm(images.split(_AT_A_TIME), desc=what, disable=not progress):
        size = (_IMAGE_SIDE, _IMAGE_SIDE)
        pixels = F.interpolate(part.float() / 255, size=size, mode="bicubic", antialias=True)
        features.append(tower(pixels.clamp(0, 1)))
    return torch.cat(features).clone()

"""Samples of unknown classes, told by their distance to the known ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation.neighbours import classes as as_classes
from tauten.evaluation.neighbours import features


def mahalanobis(train: Any, labels: Any, samples: Any) -> Tensor:
    """Return (N,) the squared Mahalanobis distance of each sample to its nearest class.

    min_c (z − μ_c)ᵀ Σ⁻¹ (z − μ_c) with Σ the covariance within the classes, all of them together,
    rows of length 1 (Lee et al., NeurIPS 2018). Where Σ has no inverse its pseudo-inverse is taken.

    Args:
        train: (M, d) embeddings of known classes.
        labels: (M,) the class of each.
        samples: (N, d) embeddings.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, or classes of one sample
            each.
    """
    known = F.normalize(features(train, "train").double(), dim=1)
    z = F.normalize(features(samples, "samples").double(), dim=1).to(known.device)
    if z.shape[1] != known.shape[1]:
        raise ValueError(f"samples must be (N, {known.shape[1]}), got {tuple(z.shape)}")
    names, code = as_classes(labels, known, "labels").unique(return_inverse=True)
    means = torch.stack([known[code == c].mean(0) for c in range(len(names))])
    within = known - means[code]
    if len(names) == len(known):
        raise ValueError(
            f"labels name {len(names)} classes of one sample each: a covariance within the classes "
            "needs two of some class"
        )
    inverse = torch.linalg.pinv(within.T @ within / len(known), hermitian=True)
    nearest = [((z - mean) @ inverse * (z - mean)).sum(1) for mean in means]
    return torch.stack(nearest).amin(0)


def unknown_auroc(inside: Any, outside: Any) -> float:
    """Return the chance that a sample of an unknown class is farther than one of a known class.

    It is the area under the ROC curve; ties count half.

    Args:
        inside: (N,) distances of samples of known classes.
        outside: (M,) distances of samples of unknown ones.

    Raises:
        ValueError: no numbers, or numbers that are not finite.
    """
    near, far = (torch.as_tensor(side).double().flatten() for side in (inside, outside))
    far = far.to(near.device)
    if not len(near) or not len(far) or not bool(torch.cat([near, far]).isfinite().all()):
        raise ValueError("inside and outside must hold finite distances, at least one each")
    ordered = near.sort().values
    below = torch.searchsorted(ordered, far, side="left")
    up_to = torch.searchsorted(ordered, far, side="right")
    return float((below + up_to).double().mean() / (2 * len(near)))

"""An image tower with a projector, for two views of one modality."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tauten.models.augmentation_options import ViewConfig
from tauten.models.tower import Description, Tower
from tauten.models.tower_kinds import build_tower
from tauten.models.view_augmentation import ViewAugmentation

Projection = Literal["mlp", "linear"]


class Projector(nn.Module):
    """A head from a tower's features to the vectors that the loss compares.

    Args:
        inputs: width of the features, and of the hidden layer.
        dim: width of the output.
        kind: ``"mlp"`` is Linear, batch normalisation, ReLU, Linear without bias, batch
            normalisation (TS, ICLR 2023); ``"linear"`` one linear layer (its MoCo variant).

    Raises:
        ValueError: widths below 1, or another kind.
    """

    def __init__(self, inputs: int, dim: int = 128, kind: Projection = "mlp") -> None:
        super().__init__()
        if inputs < 1 or dim < 1 or kind not in ("mlp", "linear"):
            raise ValueError(
                f"a projector has widths of at least 1 and the kind mlp or linear, got {inputs}, "
                f"{dim} and {kind!r}"
            )
        self.dim = dim
        self.kind: Projection = kind
        if kind == "linear":
            self.layers = nn.Sequential(nn.Linear(inputs, dim))
        else:
            self.layers = nn.Sequential(
                nn.Linear(inputs, inputs),
                nn.BatchNorm1d(inputs),
                nn.ReLU(inplace=True),
                nn.Linear(inputs, dim, bias=False),
                nn.BatchNorm1d(dim),
            )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs) to (N, dim)."""
        out: Tensor = self.layers(features)
        return out


class ViewEncoder(nn.Module):
    """A tower and a projector; evaluation looks at the features before the projector.

    Args:
        tower: images (N, 3, H, W) in [0, 1] to (N, tower.width).
        dim: width of the projections.
        projector: see :class:`Projector`.
        augmentation: how views are drawn.

    Raises:
        ValueError: as the projector.
    """

    def __init__(
        self,
        tower: Tower,
        dim: int = 128,
        projector: Projection = "mlp",
        augmentation: ViewConfig | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.projector = Projector(tower.width, dim, projector)
        self.augmentation = ViewAugmentation(augmentation or ViewConfig())

    @classmethod
    def from_description(cls, description: Description) -> ViewEncoder:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        return cls(
            build_tower(description["tower"]),
            int(description["dim"]),
            description["projector"],
            ViewConfig(**description["augmentation"]),
        )

    def describe(self) -> Description:
        """Return a JSON-serialisable dict for :meth:`from_description`."""
        return {
            "kind": "views",
            "dim": self.projector.dim,
            "projector": self.projector.kind,
            "tower": self.tower.describe(),
            "augmentation": vars(self.augmentation.config).copy(),
        }

    def views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return two random views of each image.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1].

        Returns:
            Two tensors of that shape, float in [0, 1].
        """
        images = self._float(images)
        return self.augmentation(images), self.augmentation(images)

    def features(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), uint8 or float in [0, 1], to the tower's (N, width)."""
        out: Tensor = self.tower(self._float(images))
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), uint8 or float in [0, 1], to (N, dim), not normalised."""
        out: Tensor = self.projector(self.features(images))
        return out

    def _float(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return images.to(next(self.projector.parameters()).dtype) / 255
        return images

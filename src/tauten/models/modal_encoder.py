"""A dual encoder with further modalities of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from tauten.models.augmentation_options import AugmentationConfig
from tauten.models.dual_encoder import DualEncoder
from tauten.models.tower import Description, Tower


class ModalEncoder(DualEncoder):
    """A dual encoder with further modalities of pictures, each with a tower and a projection.

    Args:
        image_tower: as of :class:`DualEncoder`.
        text_tower: likewise.
        dim: width d of the common space.
        augmentation: applied to the pictures of all modalities in training mode.
        others: tower of each further modality by its name.

    Raises:
        ValueError: dim < 1, or no further modality.
    """

    def __init__(
        self,
        image_tower: Tower,
        text_tower: Tower,
        dim: int = 256,
        augmentation: AugmentationConfig | None = None,
        *,
        others: Mapping[str, Tower],
    ) -> None:
        super().__init__(image_tower, text_tower, dim, augmentation)
        if not others:
            raise ValueError("others must name a tower of a further modality, got none")
        self.names = list(others)
        self.other_tower = nn.ModuleList(others.values())
        self.other_projection = nn.ModuleList(
            nn.Linear(tower.width, dim, bias=False) for tower in others.values()
        )

    @classmethod
    def around(cls, encoder: DualEncoder, others: Mapping[str, Tower]) -> ModalEncoder:
        """Return an encoder with the towers and projections of another one, and further towers."""
        how = None if encoder.augmentation is None else encoder.augmentation.config
        made = cls(encoder.image_tower, encoder.text_tower, encoder.dim, how, others=others)
        made.image_projection = encoder.image_projection
        made.text_projection = encoder.text_projection
        return made

    def freeze(self, *sides: Literal["image", "text"]) -> None:
        """Leave towers as they are, see :meth:`DualEncoder.freeze`; all of pictures as one."""
        super().freeze(*sides)
        if "image" in sides:
            self._frozen = (*self._frozen, "other_tower")
            self.other_tower.requires_grad_(False)
            self.train(self.training)

    def describe(self) -> Description:
        """Return a JSON-serialisable dict for :meth:`DualEncoder.from_description`."""
        towers: Any = zip(self.names, self.other_tower, strict=True)
        return super().describe() | {"others": {name: tower.describe() for name, tower in towers}}

    def encode_other(self, name: str, images: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) of a further modality to (N, dim), not normalised.

        Raises:
            ValueError: an unknown name.
        """
        if name not in self.names:
            raise ValueError(f"there is no modality {name!r}, only {', '.join(self.names)}")
        place = self.names.index(name)
        images = self._prepared(images)
        out: Tensor = self.other_projection[place](self.other_tower[place](images))
        return out

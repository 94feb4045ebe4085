"""A task of one's own, for ``tauten train``, ``evaluate`` and ``report``.

tauten train emoji_infonce_mmts --plugin examples/own_task.py --task slip --output runs/slip
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

import tauten as tt
from tauten.training.tasks.module import ContrastiveModule
from tauten.training.tasks.pairs import Pairs


class SLIPModule(ContrastiveModule):
    """The loss of image and caption, and that of two augmentations of each image (SLIP)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.of_images = tt.InfoNCE(0.1)

    def forward(
        self,
        images: Tensor,
        texts: Mapping[str, Tensor],
        index: Tensor,
        same: tuple[Tensor, Tensor],
        **others: Any,
    ) -> dict[str, Tensor]:
        loss = super().forward(images, texts, index, same, **others)["loss"]
        if self.training:
            first, second = (self.encoder.encode_image(images) for _ in range(2))
            loss = loss + self.of_images(first, second, index, same=(same[0],))
        return {"loss": loss}

    def follow(self) -> None:
        super().follow()
        self.of_images.step()


class SLIP(Pairs):
    """Images and texts, and two augmentations of each image."""

    kind = "slip"

    def module_type(self) -> type[SLIPModule]:
        return SLIPModule

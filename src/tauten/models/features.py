"""A tower for features that were computed elsewhere."""

from __future__ import annotations

from torch import Tensor, nn

from tauten.models.tower import Description, Tower


class FeatureTower(Tower):
    """Vectors as they are, or through one hidden layer.

    Args:
        dim: width of the vectors, at least 1.
        hidden: width of the hidden layer, the tower's width; 0 for none.

    Raises:
        ValueError: dim < 1 or hidden < 0.
    """

    def __init__(self, dim: int, hidden: int = 0) -> None:
        super().__init__()
        if dim < 1 or hidden < 0:
            raise ValueError(f"features need dim >= 1 and hidden >= 0, got {dim} and {hidden}")
        self.dim, self.hidden = dim, hidden
        self.width = hidden or dim
        self.layers = nn.Sequential()
        if hidden:
            self.layers.extend([nn.Linear(dim, hidden), nn.GELU()])

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, dim) to (N, width).

        Raises:
            ValueError: another shape.
        """
        if features.dim() != 2 or features.shape[1] != self.dim:
            raise ValueError(f"expected features (N, {self.dim}), got {tuple(features.shape)}")
        out: Tensor = self.layers(features)
        return out

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {"kind": "features", "dim": self.dim, "hidden": self.hidden}

"""Distance of embeddings to those of a teacher."""

from __future__ import annotations

from torch import Tensor

from tauten.terms.alignment import Alignment


class Distillation(Alignment):
    """Mean distance of embeddings to those that a teacher has of the same samples.

    D(x, t) = mean_i ‖x_i − t_i‖^α, rows scaled to length 1, t without a gradient. With α = 2 it is
    the term of DeGLA (2025), which keeps what a pre-trained model knows in fine-tuning; the teacher
    is frozen, or a :class:`~tauten.candidates.MomentumEncoder`. Add one of each modality.

    Args:
        alpha: power of the distance, > 0; published: 2.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: alpha that is not above 0.
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            x: (N, d) embeddings.
            y: (N, d) embeddings of the teacher, which are detached.
        """
        return super().forward(x, y.detach())

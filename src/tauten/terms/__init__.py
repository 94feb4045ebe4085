"""Terms that are added to a contrastive loss and have no pair of sides of their own."""

from tauten.terms.alignment import Alignment
from tauten.terms.constraint import Constraint
from tauten.terms.koleo import KoLeo
from tauten.terms.uniformity import CrossUniformity, Uniformity

__all__ = ["Alignment", "Constraint", "CrossUniformity", "KoLeo", "Uniformity"]

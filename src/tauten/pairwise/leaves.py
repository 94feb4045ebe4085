"""The gradients that tiles would lose, refused by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tauten.pairwise.terms import Term


def check_numbers(numbers: Sequence[Tensor]) -> None:
    """Refuse numbers whose gradient a sweep over tiles cannot return.

    Raises:
        ValueError: a number with further dimensions that needs a gradient.
    """
    for number in numbers:
        if number.dim() > 2 and number.requires_grad:
            raise ValueError(
                f"a number of shape {tuple(number.shape)} needs a gradient, which tiles give only "
                "to numbers (N, 1), (1, M) and (1, 1): detach it, or use tile='dense'"
            )


def check_leaves(term: Term, numbers: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Refuse a term that reaches for a parameter by itself, whose gradient tiles would lose.

    The graph of a single pair shows it, also where no embedding or number needs a gradient.

    Raises:
        ValueError: a leaf that needs a gradient and is none of the numbers.
    """
    if type(term).slopes is not Term.slopes:  # stated in closed form, of the numbers alone
        return
    device = numbers[0].device if numbers else None
    pair = torch.zeros(1, 1, dtype=dtype, device=device)
    value = term.value(pair, *(number.detach()[:1, :1] for number in numbers)).sum()
    met, coming = set(), [value.grad_fn]
    while coming:
        node = coming.pop()
        if node is None or node in met:
            continue
        met.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            raise ValueError(
                f"a term or rule of pairs uses a tensor {tuple(leaf.shape)} that needs a gradient "
                "and is none of its numbers, so tiles would lose this gradient: pass it as a "
                "number, such as PairNumber(rule, (parameter.view(1, 1),)) with rule(s, "
                "parameter), or use tile='dense'"
            )
        coming += [parent for parent, _ in node.next_functions]

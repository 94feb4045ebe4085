"""Samples that cannot be used: why, and how many."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_NAMED = 10


class UnusableSampleError(ValueError):
    """A sample without a readable picture, without a caption, or with damaged members."""


class Problem(NamedTuple):
    """A reason why one sample cannot be used.

    Attributes:
        where: its shard, position and name.
        reason: what is wrong; up to a colon the kind of problem.
    """

    where: str
    reason: str

    @property
    def kind(self) -> str:
        """Kind by which such problems are counted: the reason up to its colon."""
        return self.reason.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass
class Skipped:
    """Samples of the epoch that could not be used, of this process.

    Attributes:
        count: how many.
        kinds: how many of each kind of problem.
        first: the first ten, with file and reason.
    """

    count: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)

    def add(self, problems: Sequence[Problem]) -> None:
        """Count more of them."""
        self.count += len(problems)
        self.kinds = dict(Counter(self.kinds) + Counter(problem.kind for problem in problems))
        self.first = [*self.first, *map(str, problems)][:_NAMED]

"""Texts of a sample that training shows in turn: caption, alternative text, keywords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DrawnText:
    """Choice of the text of a sample by numbers in [0, 1).

    Attributes:
        alternative: probability of the alternative text, where there is one.
        keywords: probability that a random half of the keywords follows the text.

    Raises:
        ValueError: a probability outside [0, 1].
    """

    alternative: float = 0.0
    keywords: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.alternative <= 1 and 0 <= self.keywords <= 1):
            raise ValueError(
                f"alternative and keywords must be in [0, 1], got {self.alternative} and "
                f"{self.keywords}"
            )

    def __call__(
        self, caption: str, alternative: str | None, words: Sequence[str], draws: Sequence[float]
    ) -> str:
        """Return the text that these numbers choose.

        Args:
            caption: usual text.
            alternative: another one, or nothing.
            words: keywords, perhaps none.
            draws: three numbers in [0, 1).
        """
        if draws[0] < self.alternative and alternative:
            caption = alternative
        if draws[1] < self.keywords and words:
            start = int(draws[2] * len(words))
            half = [*words[start:], *words[:start]][: (len(words) + 1) // 2]
            caption = " ".join([caption, *half])
        return caption

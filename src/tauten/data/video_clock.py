"""Start times of a video's pictures where the file does not give one for each."""

from __future__ import annotations

from fractions import Fraction

#: seconds, and pictures, by which a time may lie off the end of the picture before it
_SECONDS, _PICTURES = 1, 16


class Clock:
    """Times of pictures in turn, in seconds: one without a time begins where the last one ends.

    Once a picture had no time, those of the others are guesses of the file's reader: they are
    counted too, until a time is far from the count.

    Args:
        follows: go on where the times of a file begin anew, as in files put one behind the other.

    Attributes:
        end: of the pictures so far; set it after each.
    """

    def __init__(self, follows: bool) -> None:
        self.end = Fraction(0)
        self._late = Fraction(0)
        self._follows = follows
        self._counts = False

    def begins(self, stamp: Fraction | None, length: Fraction) -> Fraction:
        """Return when the next picture begins.

        Args:
            stamp: its time in the file; None: it has none.
            length: how long it is shown.
        """
        if stamp is None:
            self._counts = True
            return self.end
        begins, far = stamp + self._late, max(Fraction(_SECONDS), _PICTURES * length)
        if self._follows and begins < self.end - far:
            self._late += self.end - begins
            return self.end
        return self.end if self._counts and abs(begins - self.end) <= far else begins

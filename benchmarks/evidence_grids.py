"""Levels, shifts and radii that ``evidence.py`` tries on each set."""

from __future__ import annotations

from collections.abc import Sequence

#: lowest and highest level of a shift, and the force of its loss
Span = tuple[float, float, str]
#: constant temperatures, and starts and rates of learned ones
LEVELS = (0.02, 0.03, 0.05, 0.07, 0.085, 0.1, 0.13, 0.18, 0.25, 0.4)
STARTS, RATES = (0.03, 0.05, 0.07, 0.1), (3e-4, 3e-3)
#: two wide shifts: the first has about the mean of the best constant for pairs of emoji_lt, the
#: second, which is taken apart, is as wide around a higher one
APART = (0.089, 0.485)
WIDE = tuple((*ends, force) for ends in ((0.05, 0.3), APART) for force in ("plain", "equalized"))
#: what is tried by rule: those, further ones that are wider and higher, and gentle ones around the
#: best constant for pairs
SHIFTS: dict[str, Sequence[Span]] = {
    "MM-TS": (
        *WIDE,
        (0.085, 0.115, "equalized"),
        (0.07, 0.13, "equalized"),
        (0.05, 0.485, "plain"),
        (0.13, 0.7, "plain"),
    ),
    "MM-TS reversed": (
        *WIDE,
        (0.085, 0.115, "equalized"),
        (0.07, 0.13, "equalized"),
        (0.05, 0.18, "equalized"),
        (0.05, 0.485, "equalized"),
    ),
}
#: peak-to-peak amplitude of the oscillation beside a shift
BESIDE = 0.04
#: mean level of an oscillation alone, and its amplitude over that level
OSCILLATIONS = (
    *((0.107, 0.6), (0.107, 1.4), (0.18, 0.6), (0.18, 1.4)),
    *((0.085, 0.6), (0.107, 0.3), (0.25, 1.4), (0.25, 1.8)),
)
#: the radius of the robust objective as a share of the most that a batch allows, the logarithm of
#: its number of negatives
SHARES = (0.25, 0.35, 0.45, 0.55)
LOW_SHARES = (0.1, 0.17)
NEGATIVES = 127
#: further sets are for the question whether the answers hold there, with coarser grids
ON_ICONS = (0.03, 0.05, 0.07, 0.1, 0.18, 0.4, 0.7, 1.0)
SHIFTS_ON_ICONS: dict[str, Sequence[Span]] = {
    "MM-TS": (
        *WIDE[1:3],
        (0.05, 0.485, "plain"),
        (0.13, 0.7, "plain"),
        (0.2, 0.7, "plain"),
        (0.3, 0.5, "equalized"),
    ),
    "MM-TS reversed": (
        WIDE[1],
        (0.07, 0.13, "equalized"),
        (0.05, 0.18, "equalized"),
        (0.05, 0.485, "equalized"),
        (0.2, 0.7, "equalized"),
        (0.3, 0.5, "equalized"),
    ),
}
OSCILLATIONS_ON_ICONS = ((0.1, 0.6), (0.18, 1.4), (0.4, 0.6), (0.4, 1.4))
ON_CLIPS = (0.03, 0.05, 0.07, 0.1, 0.13, 0.18, 0.25, 0.4)
SHIFTS_ON_CLIPS: dict[str, Sequence[Span]] = {
    "MM-TS": (*WIDE[:3], (0.05, 0.485, "plain"), (0.13, 0.7, "plain"), (0.2, 1.0, "plain")),
    "MM-TS reversed": (
        *WIDE[1:],
        (0.07, 0.13, "equalized"),
        (0.05, 0.18, "equalized"),
        (0.13, 0.7, "equalized"),
    ),
}
OSCILLATIONS_ON_CLIPS = ((0.107, 0.3), (0.107, 0.6), (0.18, 1.4), (0.4, 1.4))
ON_VIEWS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
SHIFTS_ON_VIEWS: dict[str, Sequence[Span]] = {
    "MM-TS": ((0.03, 0.1, "plain"), WIDE[0], WIDE[2]),
    "MM-TS reversed": ((0.03, 0.1, "equalized"), WIDE[1]),
}
#: the last is TS as published: from 1.0 to 0.1
OSCILLATIONS_ON_VIEWS = ((0.07, 0.6), (0.55, 1.636))
#: another view of each of a batch of 256, and both of all others
NEGATIVES_OF_VIEWS = 510

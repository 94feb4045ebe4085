"""Names of animated emoji: their action and details, and how relevant names are to each other.

A name is a text such as "woman surfing: medium skin tone" or "cyclone".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tauten.data.relevancy import Relevancy

PEOPLE = frozenset(
    ("man", "woman", "person", "men", "women", "people", "boy", "girl", "child", "baby")
)
_TONES = re.compile(r"-1f3f[b-f]")
_WORD = re.compile(r"[\w'’-]+")


def base_of(id: str) -> str:
    """Return the code points of an emoji without its skin tones: what its variants share.

    >>> base_of("1f3c4-1f3fd-200d-2640_anim")
    '1f3c4-200d-2640'
    """
    return _TONES.sub("", id.lower().partition("_")[0])


def action_of(name: str) -> tuple[str, frozenset[str]]:
    """Return the action that a name shows, and its details: words for people, and the skin tone.

    >>> action, details = action_of("woman surfing: medium skin tone")
    >>> action, sorted(details)
    ('surfing', ['medium skin tone', 'woman'])
    """
    head, _, tail = name.lower().partition(":")
    parts = [part.strip() for part in tail.split(",") if part.strip()]
    tones = [part for part in parts if part.endswith("skin tone")]
    words = _WORD.findall(" ".join([head, *(part for part in parts if part not in tones)]))
    people = [word for word in words if word in PEOPLE]
    return " ".join(word for word in words if word not in PEOPLE), frozenset(people + tones)


def name_relevancy(clips: Sequence[str], names: Sequence[str]) -> Relevancy:
    """Return how relevant each name is to each clip whose name is known, in [0, 1].

    rel = ½·[same action] + ½·|details ∩ details'| / |details ∪ details'|

    as in EPIC-KITCHENS-100, with the action in the place of the verb and the details in that of
    the nouns, see :func:`action_of`. Two names without details share them if they share the action.
    So 1 for equal names; 2/3 for one action by a man and by a woman of one skin tone; ½ for another
    action by the same kind of person; 0 for "cyclone" and "taxi".

    Args:
        clips: N names.
        names: M names.

    Returns:
        (N, M) relevancies.
    """
    verbs: dict[str, int] = {}
    nouns: dict[str, int] = {}

    def encoded(name: str) -> tuple[int, frozenset[int]]:
        action, details = action_of(name)
        kinds = details or {f"only: {action}"}
        verb = verbs.setdefault(action, len(verbs))
        return verb, frozenset(nouns.setdefault(kind, len(nouns)) for kind in sorted(kinds))

    return Relevancy.from_actions(
        [encoded(name) for name in clips], [encoded(name) for name in names], progress=False
    )

"""Numbers that the host must read, of a whole step at once.

Each read of a GPU waits until all its work so far is done. What a step asks of its numbers, such as
whether its loss is finite, is therefore collected and answered by one read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: types of devices whose numbers are read without waiting
FREE = {"cpu"}


class Questions:
    """Yes-or-no questions to numbers of a device, and what is to be done with the answers."""

    def __init__(self) -> None:
        self._asked: list[tuple[Tensor, Callable[[bool], None]]] = []
        self._later: list[Callable[[], None]] = []

    def ask(self, flag: Tensor, then: Callable[[bool], None]) -> None:
        """Add a question, a bool (), and the function that is called with its answer."""
        self._asked.append((flag.detach(), then))

    def after(self, function: Callable[[], None]) -> None:
        """Call a function once all answers are there, unless one of them raises an error."""
        self._later.append(function)

    def answer(self) -> None:
        """Read all flags at once and call what waits for them, in the order of asking."""
        asked, later = self._asked, self._later
        self._asked, self._later = [], []
        if asked:
            answers = torch.stack([flag for flag, _ in asked]).tolist()
            for (_, then), answer in zip(asked, answers, strict=True):
                then(answer)
        for function in later:
            function()

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Collect what this thread asks in a block; an error in it drops the questions."""
        outer, _HERE.questions = waiting(), self
        try:
            yield
        except BaseException:
            self._asked, self._later = [], []
            raise
        finally:
            _HERE.questions = outer


class _Here(threading.local):
    questions: Questions | None = None


_HERE = _Here()


def waiting() -> Questions | None:
    """Return what collects the questions of this thread now, if anything does."""
    return _HERE.questions


def ask(flag: Tensor, then: Callable[[bool], None]) -> None:
    """Ask a question, answered at once where that makes nobody wait, or nobody collects them.

    Args:
        flag: a bool ().
        then: called with the answer.
    """
    questions = waiting()
    if questions is None or flag.device.type in FREE:
        then(bool(flag))
    else:
        questions.ask(flag, then)


@contextmanager
def together() -> Iterator[None]:
    """Answer what is asked in a block at its end, by one read; or leave it to who collects it."""
    if waiting() is not None:
        yield
        return
    questions = Questions()
    with questions.collect():
        yield
    questions.answer()

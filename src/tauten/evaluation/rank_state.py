"""Counts of ranks in a file, from which an interrupted count goes on."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch

from tauten.evaluation.ahead import Counter
from tauten.evaluation.correspondence import Correspondence
from tauten.evaluation.embedding_rows import Rows, checksum_of
from tauten.files import replacing


class RankState:
    """Counts so far, in a file that is replaced after every block of queries."""

    def __init__(self, path: Path, inputs: dict[str, str], counters: dict[str, Counter]) -> None:
        self.path, self.inputs, self.counters = path, inputs, counters
        self.done: dict[tuple[str, ...], int] = {}
        if path.exists():
            self._load()
        else:
            self._write()

    def save(self, names: tuple[str, ...], rows: int) -> None:
        """Save that these directions are counted for so many queries."""
        self.done[names] = rows
        self._write()

    def _write(self) -> None:
        ahead = {name: counter.ahead for name, counter in self.counters.items()}
        with replacing(self.path) as file:
            torch.save({"inputs": self.inputs, "done": self.done, "ahead": ahead}, file)

    def _load(self) -> None:
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            inputs, self.done, ahead = saved["inputs"], saved["done"], saved["ahead"]
        except (EOFError, KeyError, RuntimeError, TypeError, UnpicklingError) as error:
            raise ValueError(f"{self.path} keeps no counts of ranks: {error}") from error
        if differing := [name for name, value in self.inputs.items() if inputs.get(name) != value]:
            raise ValueError(
                f"{self.path} keeps counts of other inputs ({', '.join(differing)} differ): delete "
                "it to start again, or name another file"
            )
        for name, counter in self.counters.items():
            counter.ahead.copy_(ahead[name])


def inputs_of(
    sides: dict[str, Rows],
    pairs: Correspondence,
    normalize: bool,
    passes: list[tuple[str, ...]],
    tile: int,
) -> dict[str, str]:
    """Return everything that the counts depend on, as texts that can be compared."""
    of_sides = {
        name: f"{tuple(side.source.shape)} {side.source.dtype} {side.checksum(tile)}"
        for name, side in sides.items()
    }
    return of_sides | {
        "y_of_x": f"{checksum_of(pairs.offsets)} {checksum_of(pairs.targets)}",
        "normalize": str(normalize),
        "passes": str(passes),
    }

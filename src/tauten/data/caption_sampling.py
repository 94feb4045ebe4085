"""Choice of the sentence that a clip is trained with in an epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.data.relevancy import Relevancy, blocks


class Candidates:
    """Sentences that may be the caption of each clip, int32, ascending.

    Clips of one action share their list.

    Args:
        relevancy: relevancy of clips and sentences.
        threshold: relevancy that a sentence must exceed.
        progress: whether to show a progress bar.
    """

    def __init__(self, relevancy: Relevancy, threshold: float, *, progress: bool = False) -> None:
        bound = torch.tensor(threshold, dtype=torch.float32)
        ids, counts = [], []
        for block in blocks(len(relevancy.table), progress, "candidates"):
            above = relevancy.table[block][:, relevancy.cols] > bound
            counts.append(above.sum(1))
            ids.append(above.nonzero()[:, 1].int())
        self._ids, self._rows = torch.cat(ids), relevancy.rows
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), *counts]).cumsum(0)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, clip: int) -> Tensor:
        """Return (k,) the sentences of one clip."""
        row = self._rows[clip]
        return self._ids[self._starts[row] : self._starts[row + 1]]

    def counts(self, clips: Tensor | slice = slice(None)) -> Tensor:
        """Return (n,) how many sentences each of these clips has."""
        rows = self._rows[clips]
        return self._starts[rows + 1] - self._starts[rows]

    def take(self, clips: Tensor, which: Tensor) -> Tensor:
        """Return (n,) int64, sentence number which[i] of clip clips[i]."""
        return self._ids[self._starts[self._rows[clips]] + which].long()


class CaptionSampler:
    """A caption for each clip and epoch, uniform among the sentences of relevancy > threshold.

    As in the published training of LaViLa, AVION and MM-TS. The draw depends on the seed, the epoch
    and the clip alone: not on the order of batches, on workers or on processes.

    Args:
        relevancy: relevancy of the training split.
        threshold: relevancy that a caption must exceed; published: 0.1.
        seed: seed of the draws.
        progress: whether to show a progress bar while candidates are listed.

    Raises:
        ValueError: a clip without any candidate.
    """

    def __init__(
        self,
        relevancy: Relevancy,
        threshold: float = 0.1,
        seed: int = 0,
        *,
        progress: bool = False,
    ) -> None:
        self.relevancy, self.seed = relevancy, seed
        self.candidates = Candidates(relevancy, threshold, progress=progress)
        self._counts = self.candidates.counts()
        alone = (self._counts == 0).nonzero().flatten().tolist()
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(self._counts)} clips have no sentence of relevancy > "
                f"{threshold}, first: {alone[0]}; lower the threshold"
            )
        self._epoch, self._chances = -1, torch.empty(0)

    def sample(self, clips: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return captions of these clips in that epoch.

        Args:
            clips: (n,) long, positions in the split.
            epoch: >= 0.

        Returns:
            (n,) int64 sentences, and their relevancies (n,) float32: the ``relevance=`` of
            :class:`tauten.MaxMargin`.
        """
        chances = self._of(epoch)[clips]
        counts = self._counts[clips]
        which = (chances * counts).long().clamp(max=counts - 1)
        sentences = self.candidates.take(clips, which)
        return sentences, self.relevancy.of(clips, sentences)

    def _of(self, epoch: int) -> Tensor:
        """Return (N,) float64 uniform in [0, 1), one for each clip."""
        if epoch < 0:
            raise ValueError(f"epoch must be >= 0, got {epoch}")
        if epoch != self._epoch:
            seeds = torch.randint(
                2**62, (epoch + 1,), generator=torch.Generator().manual_seed(self.seed)
            )
            generator = torch.Generator().manual_seed(int(seeds[epoch]))
            self._chances = torch.rand(len(self._counts), generator=generator, dtype=torch.float64)
            self._epoch = epoch
        return self._chances

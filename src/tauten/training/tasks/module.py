"""Towers and loss as one module, so that both are in every checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tauten.candidates import Keys, OwnNegatives, PairQueue
from tauten.ids import on_device
from tauten.losses import SMS, ContrastiveLoss, NonFiniteLossError
from tauten.messages import riding
from tauten.models import DualEncoder
from tauten.reads import ask
from tauten.training import processes
from tauten.training.options.further import CAPTION, IMAGE
from tauten.training.tasks.added import AddedTerms
from tauten.training.tasks.chunks import check_rowwise, encode_in_chunks, texts_in_chunks
from tauten.training.tasks.embedded import EmbeddedBatch
from tauten.training.tasks.followed import FollowedModule
from tauten.training.tasks.force import ANCHORS, force_by_group
from tauten.training.tasks.further import FEWEST, FurtherLosses, Side
from tauten.training.tasks.guard import Guard
from tauten.training.tasks.inputs import PairInputs


@contextmanager
def refusing(broken: Tensor, names: Sequence[str], *, together: bool) -> Iterator[None]:
    """Refuse what towers returned if it is broken, over several processes on all of them.

    They tell each other with the first message of the block.

    Args:
        broken: (k,) bool of this process.
        names: of the k towers.
        together: whether all processes enter the block.
    """

    def then(flags: Sequence[bool]) -> None:
        for name, bad in zip(names, flags, strict=True):
            _refuse(name, bad)

    if together and processes.count() > 1:
        with riding(broken, then):
            yield
        return
    for name, bad in zip(names, broken, strict=True):
        ask(bad, partial(_refuse, name))
    yield


def _refuse(name: str, broken: bool) -> None:
    if broken:
        raise NonFiniteLossError(f"{name} returned NaN or infinite values")


class ContrastiveModule(FollowedModule):
    """A dual encoder and the loss on its embeddings; ``last_batch`` is that of training.

    Args:
        encoder: the towers.
        loss_fn: with its controls, counters and tables.
        mask_duplicates: whether pairs that share an image or caption are left out as negatives.
        chunk: pairs whose activations are held at a time in training; None for all.
        adaptive: whether a max-margin loss is given the relevancy of each pair.
        queue: earlier pairs of keys that are further candidates; 0 for the batch alone.
        momentum: of the encoder that makes the keys of the queue.
        terms: added to the loss; None for none.
        teacher: with a queue, see :class:`EmbeddedBatch`.
        mixed: with a queue, see :class:`EmbeddedBatch`.
        further: losses of further modalities; None for none.
        guard: of protected groups; None for none.

    Raises:
        ValueError: chunks with an encoder that normalises over the batch.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        loss_fn: ContrastiveLoss,
        mask_duplicates: bool = True,
        chunk: int | None = None,
        adaptive: bool = False,
        queue: int = 0,
        momentum: float = 0.999,
        terms: AddedTerms | None = None,
        teacher: tuple[float, float] | None = None,
        mixed: tuple[int, int, int] | None = None,
        further: FurtherLosses | None = None,
        guard: Guard | None = None,
    ) -> None:
        if chunk is not None:
            check_rowwise(encoder)
        ids = 4 if mask_duplicates else 2
        pairs_before = PairQueue(queue, encoder.dim, ids=ids, shared=True) if queue else None
        super().__init__(encoder, loss_fn, pairs_before, momentum)
        self.mask_duplicates = mask_duplicates
        self.chunk = chunk
        self.adaptive = adaptive
        self.terms, self.further, self.guard = terms, further, guard
        self.teacher, self.mixed = teacher, mixed
        self.last_batch: EmbeddedBatch | None = None

    def forward(
        self,
        images: Tensor,
        texts: Mapping[str, Tensor],
        index: Tensor,
        same: tuple[Tensor, Tensor],
        graded: tuple[Tensor, ...] = (),
        caption: Tensor | None = None,
        negatives: Mapping[str, Tensor] | None = None,
        negative_rows: Tensor | None = None,
        others: Mapping[str, tuple[Tensor, Tensor, Tensor]] | None = None,
        present: tuple[Tensor, Tensor] | None = None,
        protected: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of a batch, as ``{"loss": scalar}``.

        Args:
            images: (N, 3, H, W), or clips.
            texts: of the tokenizer.
            index: (N,) long, data set positions.
            same: ids of images and of captions, see :class:`PairInputs`.
            graded: see :class:`EmbeddedBatch`.
            caption: (N,) long, ids of the captions where these have their own.
            negatives: of the tokenizer, T texts that are hard negatives of single pairs.
            negative_rows: (N, K) long, those of each pair; -1 where it has fewer than K.
            others: pictures of each further modality, (N,) bool of which are there, and ids.
            present: with others which samples have an image, and which a caption, each (N,) bool;
                None where all have both.
            protected: samples of each protected group, as the store gives them.

        Raises:
            NonFiniteLossError: an embedding or the loss is NaN or infinite, on any process.
        """
        x, y = self._embedded(images, texts, present)
        broken = torch.stack([~side.detach().isfinite().all() for side in (x, y)])
        names = [f"the {name} tower" for name in ("image", "text")]
        inputs = PairInputs(images, texts, index, same, graded, caption, negatives, negative_rows)
        pairs = x, y
        if present is not None:
            both = present[0] & present[1]
            inputs = inputs.at(both)
            pairs = x[both[present[0]]], y[both[present[1]]]
        with refusing(broken, names, together=self.training):
            if present is not None and processes.total(len(inputs.index)) < FEWEST:
                loss = self.encoder.image_projection.weight.sum() * 0
            else:
                loss = self._of_pairs(*pairs, inputs)
        if self.further is not None and others is not None:
            loss = loss + self._further(x, y, index, caption, same, others, present)
        if self.guard is not None and protected is not None:
            loss = loss + self.guard(self.encoder, protected)
        return {"loss": loss}

    def _of_pairs(self, x: Tensor, y: Tensor, inputs: PairInputs) -> Tensor:
        """Return the loss of image and caption, with its terms, and keep the batch."""
        masked = inputs.same if self.mask_duplicates else ()
        captions = () if inputs.caption is None else (inputs.caption,)
        index, graded = inputs.index, inputs.graded
        batch = EmbeddedBatch(x.detach(), y.detach(), index, masked, graded, captions)
        made = None
        if self.queue is not None:
            of_sides = (index, captions[0] if captions else index)
            there = [on_device(ids, x.device) for ids in masked]
            made = Keys(*self._keys(inputs.images, inputs.texts), of_sides, there)
            batch = replace(
                batch,
                keys=self.queue.candidates(made),
                teacher=self._taught(),
                mixed=self.mixed,
            )
        relation = batch.relation
        if inputs.negatives is not None and inputs.negative_rows is not None:
            relation["negatives"] = self._own(inputs.negatives, inputs.negative_rows)
            batch = replace(batch, negatives=relation["negatives"].each(Tensor.detach))
        loss: Tensor = self.loss_fn(x, y, batch.ids, **relation, **self.graded(graded))
        if self.terms is not None:
            loss = loss + self.terms(x, y)
        if self.training:
            self.last_batch = batch
            if made is not None:
                self.queue.push(made)
        return loss

    def _embedded(
        self,
        images: Tensor,
        texts: Mapping[str, Tensor],
        present: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the embeddings of both sides, of those samples that have them."""
        if present is not None:
            pictured, captioned = present
            shown = {name: ids[captioned] for name, ids in texts.items()}
            return (
                self._those(self.encoder.encode_image, images[pictured], int(pictured.sum())),
                self._those(self.encoder.encode_text, shown, int(captioned.sum())),
            )
        if self.chunk is None or not self.training:
            sides: tuple[Tensor, Tensor] = self.encoder(images, texts)
            return sides
        return encode_in_chunks(self.encoder, images, texts, self.chunk)

    def _those(self, encode: Callable[[Any], Tensor], inputs: Any, count: int) -> Tensor:
        """Return embeddings of a side of which this process may have none, see ``BatchNorm``."""
        if processes.total(count):
            return encode(inputs)
        none: Tensor = self.encoder.image_projection.weight.new_zeros(0, self.encoder.dim)
        return none

    def _taught(self) -> tuple[float, float] | None:
        """Return the share of the targets that the keys make now, and their temperature."""
        if self.teacher is None or not self.rise:
            return self.teacher
        share, tau = self.teacher
        risen = min(1.0, self.loss_fn.steps / self.rise)
        if risen == 1:
            self.rise = 0  # from now on nothing is asked of the device
        return share * risen, tau

    def _own(self, texts: Mapping[str, Tensor], rows: Tensor) -> OwnNegatives:
        """Return the embeddings of each pair's own negatives."""
        size = None if self.chunk is None or not self.training else self.chunk
        vectors = texts_in_chunks(self.encoder, texts, size)
        return OwnNegatives(vectors[rows.clamp(min=0)], missing_x=rows < 0)

    def follow(self) -> None:
        """Move the momentum encoder, and the controls of further losses."""
        super().follow()
        if self.further is not None:
            self.further.step()

    def _further(
        self,
        x: Tensor,
        y: Tensor,
        index: Tensor,
        caption: Tensor | None,
        same: tuple[Tensor, Tensor],
        others: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        present: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return the value of the further losses of a batch."""
        assert self.further is not None
        every = torch.ones_like(index, dtype=torch.bool)
        pictured, captioned = (every, every) if present is None else present
        of_caption = index if caption is None else caption
        of_images, of_captions = (on_device(ids, x.device) for ids in same)
        sides = {
            IMAGE: Side(x, pictured, of_images, index),
            CAPTION: Side(y, captioned, of_captions, of_caption),
        }
        for name, (images, there, ids) in others.items():
            encode = partial(self.encoder.encode_other, name)
            vectors = self._those(encode, images[there], int(there.sum()))
            sides[name] = Side(vectors, there, ids, index)
        value: Tensor = self.further(sides)
        return value

    def _keys(self, images: Tensor, texts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the keys of a batch, made in the parts in which it is encoded."""
        assert self.slow is not None
        size = self.chunk or max(len(images), 1)
        parts = [slice(start, start + size) for start in range(0, max(len(images), 1), size)]
        made = [
            self.slow(images[part], {name: ids[part] for name, ids in texts.items()})
            for part in parts
        ]
        x, y = (torch.cat(side) for side in zip(*made, strict=True))
        return x, y

    def graded(self, columns: tuple[Tensor, ...]) -> dict[str, Any]:
        """Return the keywords by which the loss is given the relevancies of a batch."""
        if isinstance(self.loss_fn, SMS):
            return {"relevancy": columns[:2]}
        return {"relevance": columns[2]} if self.adaptive else {}

    def forces(self, groups: Sequence[str] | None) -> dict[str, float]:
        """Return them of the first 1,024 pairs of the last batch, the same on all processes."""
        batch = self.last_batch
        if batch is None:  # no sample of the batches so far could be used
            return {}
        device, batch = batch.x.device, batch.first(ANCHORS)
        if processes.count() > 1:
            shards = processes.gather(batch.to("cpu"))
            batch = EmbeddedBatch.joined(shards).first(ANCHORS).to(device)
        keywords = batch.relation | self.graded(batch.graded)
        by_group = force_by_group(self.loss_fn, batch.x, batch.y, batch.ids, groups, **keywords)
        for part in (self.further, self.guard):
            by_group |= {} if part is None else part.summary()
        return by_group

"""Module, batches and tokenizer of a training of pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tauten.losses import ContrastiveLoss
from tauten.models import DualEncoder, Tokenizer
from tauten.models.batch_norm import with_whole_batches
from tauten.models.modal_encoder import ModalEncoder
from tauten.models.rebuild import check_rebuilds, check_repeats
from tauten.training import processes
from tauten.training.build import build_further, build_loss, check_loss
from tauten.training.encoders import build_encoder, image_tower, text_tower
from tauten.training.initial import Initial
from tauten.training.loop.compute import compiled, fitted
from tauten.training.options.pretrained import tell_of_pixels
from tauten.training.stores.pairs import caption_counts, training_texts
from tauten.training.stores.protected import ProtectedStore, rows_of
from tauten.training.stores.store import Store
from tauten.training.tasks.followed import FollowedModule
from tauten.training.tasks.guard import Guard, losses_before
from tauten.training.tasks.task import Built, Task, Training
from tauten.training.tokenizer import build_tokenizer, check_texts

#: text towers whose vocabulary is that of the training captions
_FITTED = ("words", "ngrams")


def build(task: Task, training: Training, start: Initial | None = None) -> Built:
    """Build the module, the batches and the tokenizer of a training of pairs.

    Raises:
        ValueError: data that the towers cannot take, or see
            :func:`tauten.training.build.build_loss`.
    """
    config, train = training.config, training.splits["train"]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        tokenizer = _tokenizer(training, start)
        features = train.images.shape[1] if train.images.dim() == 2 else 0
        size = tokenizer.vocabulary_size
        if start is None:
            frames, pixels = config.data.frames, config.data.image_size
            encoder = build_encoder(
                config.model, size, frames, pixels, features=features, texts=config.data.texts
            )
        else:
            encoder = start.dual(
                config,
                lambda: image_tower(config.model, config.data.frames, features),
                lambda: text_tower(config.model, size),
                features,
            )
        captions = caption_counts(train) if check_loss(config) else None
        loss_fn = _loss(training, captions)
        if start is not None:
            start.loss(config, loss_fn)
        further = build_further(config, *_facts(training, None), captions=captions)
        if config.data.others:
            towers = {name: image_tower(config.model) for name in config.data.others}
            encoder = ModalEncoder.around(encoder, towers)
    tell_of_pixels(encoder.image_tower, config.model.image, config.data)
    fitted(encoder, config.model, config.form, config.seed)
    if processes.count() > 1:
        with_whole_batches(encoder)
    made = task.module(config, encoder, loss_fn)
    if further is not None:
        made.further = further
    made.rise = round(config.loss.teacher_rise * training.steps.per_epoch)
    store = task.store(train, tokenizer, config.data, captions)
    _try_one(encoder, store, train.usable())
    if config.protect.groups:
        store = _guarded(training, made, store)
    if config.optim.compile:
        compiled(encoder)
    return Built(made, store, tokenizer)


def _guarded(training: Training, module: FollowedModule, store: Store) -> Store:
    """Hold protected groups at the loss that they have now; return batches with some of each."""
    options, train, classes = training.config.protect, training.splits["train"], training.classes
    names = None if classes is None or not train.labels else classes.groups(train.labels)
    rows = rows_of(options.groups, train.labels, names)
    before = losses_before(module.encoder, store, rows, options, training.config.seed)
    module.guard = guard = Guard(options, before)
    training.folder.notes["protected"] = guard.line()
    return ProtectedStore(store, rows, options.samples)


def _tokenizer(training: Training, start: Initial | None) -> Tokenizer:
    """Return the tokenizer of the text tower; a built-in one learns the words of the captions."""
    config, train = training.config, training.splits["train"]
    texts = training_texts(train, config.data) if config.model.text in _FITTED else []
    before = None if start is None else start.tokenizer_for(config, texts)
    tokenizer = before or build_tokenizer(config.model, texts)
    if config.model.text not in _FITTED:
        check_texts(tokenizer, [c for c in train.captions if c], config.model.text)
    return tokenizer


def _loss(training: Training, captions: Tensor | None) -> ContrastiveLoss:
    train = training.splits["train"]
    table = None if train.relevancy is None else train.relevancy.table
    return build_loss(training.config, *_facts(training, table), captions)


def _facts(training: Training, table: Tensor | None) -> tuple[Any, ...]:
    """Return what losses are told of a training, but for the captions."""
    train, steps, classes = training.splits["train"], training.steps, training.classes
    counts = classes.per_sample(train.labels) if classes and train.labels else None
    return len(train), counts, steps.total, train.labels, table, steps.per_epoch


@torch.no_grad()
def _try_one(encoder: DualEncoder, store: Store, position: int) -> None:
    """Let towers refuse images or texts that they cannot take before anything is written.

    Raises:
        ValueError: also for a tower that a checkpoint could not be read into, or one that embeds
            the same sample differently each time.
    """
    for tower in (encoder.image_tower, encoder.text_tower):
        check_rebuilds(tower)
    with torch.random.fork_rng():
        sample = store.batch(torch.tensor([position]))
        both = [encoder.eval()(sample["images"], sample["texts"]) for _ in range(2)]
    for tower, old, new in zip((encoder.image_tower, encoder.text_tower), *both, strict=True):
        check_repeats(tower, old, new)
    encoder.train()

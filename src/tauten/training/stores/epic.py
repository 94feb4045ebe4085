"""EPIC-KITCHENS-100 multi-instance retrieval in training: captions by relevancy, clips."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from tauten.data import Relevancy, epic_files
from tauten.data.caption_sampling import Candidates
from tauten.data.epic_kitchens import EpicKitchens, load_epic_kitchens
from tauten.data.epic_videos import REMEDY, epic_clips
from tauten.data.features import FeatureTable, load_features
from tauten.data.relevancy import Action
from tauten.data.video import Clip
from tauten.training.options.config import DataConfig
from tauten.training.stores.clip_source import ClipSource, existing
from tauten.training.stores.named import place, root_of
from tauten.training.stores.pair_data import PairData, Split

#: a sentence of higher relevancy may be the caption of a clip in training
THRESHOLD = 0.1
SYNTHETIC = "synthetic"
_LABELS = ("noun", "verb", "verb_noun")
_WIDTH, _NOISE = 64, 1.0
_VERBS, _NOUNS = 97, 300


def epic_splits(
    config: DataConfig, splits: Sequence[Split], progress: bool = True
) -> dict[Split, PairData]:
    """Load splits of ``epic_kitchens:FOLDER``, with its videos or features of the clips.

    In training a clip's caption is drawn uniformly from all sentences of relevancy above 0.1. In
    validation and test its matches are the sentences of relevancy 1. Graded relevancies are kept in
    all splits. Validation is a share of the training clips (``data.held_out``), by a hash of their
    ids, without clips that have no sentence of relevancy 1. Clips whose video is missing are left
    out, with a warning.

    Args:
        config: source; frames of a clip, or features, a file by narration_id or "synthetic"; label,
            one of noun, verb and verb_noun, or None.
        splits: those wanted.
        progress: show bars for large data.

    Raises:
        FileNotFoundError: annotations or features that are not there.
        ValueError: neither videos nor features or both, a clip without features, no video at all,
            or with ``data.strict`` one that is missing, another label, other numbers of clips than
            published (unless ``data.limit`` is set).
    """
    if bool(config.features) == bool(config.frames):
        raise ValueError(
            "epic_kitchens is trained on its videos, with data.frames=16 or so, or on features of "
            "its clips: set data.features=FILE (by narration_id) or data.features=synthetic, with "
            f"model.image=features; got data.frames={config.frames} and data.features="
            f"{config.features!r}"
        )
    if config.relevancy != "none":
        raise ValueError(
            f"epic_kitchens has relevancies of its own: leave out data.relevancy={config.relevancy}"
        )
    if config.val is not None or config.test is not None:
        raise ValueError("epic_kitchens has its own validation and test clips: leave out val, test")
    if config.label is not None and config.label not in _LABELS:
        raise ValueError(
            f"data.label of epic_kitchens is one of {', '.join(_LABELS)}, got {config.label!r}"
        )
    given = config.features or SYNTHETIC
    table = None if given == SYNTHETIC else load_features(given, progress=progress)
    root, strict = root_of(config.source), config.limit is None
    parts: set[epic_files.Split] = {"test" if s == "test" else "train" for s in splits}
    media = {}
    for part in sorted(parts):
        whole = _annotations(root, part, strict)
        clips = epic_clips(root, whole) if config.frames else None
        media[part] = _Media(config, whole, table, clips, progress)
    return {split: _split(split, media["test" if split == "test" else "train"]) for split in splits}


@lru_cache(maxsize=2)
def _annotations(root: Path, part: epic_files.Split, strict: bool) -> EpicKitchens:
    """Load the annotations of a split, cached for the next run of this process."""
    return load_epic_kitchens(root, part, strict=strict)


@dataclass(frozen=True)
class _Media:
    """A split as published, and what stands for its clips: parts of videos, or features.

    Attributes:
        config: of the data.
        whole: the annotations.
        table: features from a file; None for synthetic ones, or videos.
        parts: of videos, one for each clip; None for features.
        progress: whether bars are shown for large data.
    """

    config: DataConfig
    whole: EpicKitchens
    table: FeatureTable | None
    parts: list[Clip] | None
    progress: bool

    def there(self, clips: Tensor) -> Tensor:
        """Return those of these clips that have a video, or all where there are no videos."""
        if self.parts is None:
            return clips
        wanted = [self.parts[i] for i in clips.tolist()]
        return clips[existing(wanted, self.config.strict, REMEDY)]

    def of(self, clips: Tensor) -> tuple[Tensor | ClipSource, str]:
        """Return what is encoded of these clips, and a hash of it."""
        chosen, config = clips.tolist(), self.config
        if self.parts is not None:
            source = ClipSource(
                [self.parts[i] for i in chosen],
                config.frames,
                config.image_size,
                strict=config.strict,
                threads=config.workers,
            )
            return source, source.fingerprint()
        if self.table is None:
            return synthetic_features(self.whole, clips), SYNTHETIC
        names = [self.whole.narration_id[i] for i in chosen]
        return _of(self.table, names), self.table.fingerprint


def _split(split: Split, media: _Media) -> PairData:
    config, whole = media.config, media.whole
    clips = torch.arange(len(whole))
    if split != "test":
        held = torch.tensor([place(name) < config.held_out for name in whole.narration_id])
        clips = clips[held if split == "val" else ~held]
    clips = media.there(clips)
    if config.limit is not None and config.limit < len(clips):
        clips = clips[torch.linspace(0, len(clips) - 1, config.limit).round().long()]
    relevancy = _relevancy(whole, clips, media.progress)
    if split == "train":
        return _trained(media, clips, relevancy)
    return _searched(media, clips, relevancy)


def _trained(media: _Media, clips: Tensor, relevancy: Relevancy) -> PairData:
    texts = list(media.whole.sentences.text)
    nearest = relevancy.table[:, relevancy.cols].argmax(dim=1)[relevancy.rows].tolist()
    matches = [[sentence] for sentence in nearest]
    pairs = _pairs(media, clips, texts, matches)
    drawn = Candidates(relevancy, THRESHOLD)
    return dataclasses.replace(pairs, drawn=drawn, relevancy=relevancy)


def _searched(media: _Media, clips: Tensor, relevancy: Relevancy) -> PairData:
    exact = relevancy.dense() == 1
    rows, columns = exact.any(dim=1), exact.any(dim=0)
    exact = exact[rows][:, columns]
    texts = [media.whole.sentences.text[j] for j in columns.nonzero().flatten().tolist()]
    matches = [row.nonzero().flatten().tolist() for row in exact]
    pairs = _pairs(media, clips[rows], texts, matches)
    searched = Relevancy(relevancy.table, relevancy.rows[rows], relevancy.cols[columns])
    return dataclasses.replace(pairs, relevancy=searched)


def _pairs(media: _Media, clips: Tensor, texts: list[str], matches: list[list[int]]) -> PairData:
    config, whole, chosen = media.config, media.whole, clips.tolist()
    names = [whole.narration_id[i] for i in chosen]
    labels = None if config.label is None else whole.labels(config.label)  # type: ignore[arg-type]
    images, content = media.of(clips)
    digest = hashlib.sha256(json.dumps((names, texts, matches, content)).encode())
    return PairData(
        images=images,
        captions=[[texts[j] for j in row] for row in matches],
        alternatives=[""] * len(chosen),
        keywords=[[] for _ in chosen],
        labels=None if labels is None else [str(labels[i]) for i in chosen],
        fingerprint=digest.hexdigest()[:32],
        candidates=(texts, matches),
    )


def _of(table: FeatureTable, names: Sequence[str]) -> Tensor:
    """Return (n, d) float32; of several vectors of a clip the mean."""
    rows = table.select(names).float()
    return rows if rows.dim() == 2 else rows.flatten(1, -2).mean(dim=1)


def _relevancy(whole: EpicKitchens, clips: Tensor, progress: bool) -> Relevancy:
    actions: list[Action] = [
        (int(whole.verb[i]), frozenset(whole.nouns[i])) for i in clips.tolist()
    ]
    sentences: list[Action] = [
        (verb, frozenset(nouns))
        for verb, nouns in zip(whole.sentences.verb.tolist(), whole.sentences.nouns, strict=True)
    ]
    return Relevancy.from_actions(actions, sentences, progress=progress and len(actions) > 10_000)


def synthetic_features(whole: EpicKitchens, clips: Tensor) -> Tensor:
    """Return features that stand for real ones where there are none: not of any video.

    A random vector for the verb class, the mean of those of the noun classes, and noise drawn for
    each clip.

    Args:
        whole: a split.
        clips: (n,) long, positions in it.

    Returns:
        (n, 64) float32, the same in every run.
    """
    generator = torch.Generator().manual_seed(0)
    verbs = torch.randn(_VERBS, _WIDTH, generator=generator)
    nouns = torch.randn(_NOUNS, _WIDTH, generator=generator)
    generator.manual_seed(1 if whole.split == "train" else 2)
    noise = _NOISE * torch.randn(len(whole), _WIDTH, generator=generator)
    of_nouns = torch.stack([nouns[list(whole.nouns[i])].mean(dim=0) for i in clips.tolist()])
    return verbs[whole.verb[clips]] + of_nouns + noise[clips]

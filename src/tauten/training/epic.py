"""EPIC-KITCHENS-100 multi-instance retrieval in training: captions by relevancy, features."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from tauten.data import Relevancy, epic_files
from tauten.data.caption_sampling import Candidates
from tauten.data.epic_kitchens import EpicKitchens, load_epic_kitchens
from tauten.data.features import FeatureTable, load_features
from tauten.data.relevancy import Action
from tauten.training.config import DataConfig
from tauten.training.named import place, root_of
from tauten.training.pair_data import PairData, Split

#: a sentence of higher relevancy may be the caption of a clip in training
THRESHOLD = 0.1
SYNTHETIC = "synthetic"
_LABELS = ("noun", "verb", "verb_noun")
_WIDTH, _NOISE = 64, 1.0
_VERBS, _NOUNS = 97, 300


def epic_splits(config: DataConfig, splits: Sequence[Split]) -> dict[Split, PairData]:
    """Splits of ``epic_kitchens:FOLDER`` with features of the clips.

    In training a clip's caption is drawn uniformly from all sentences of relevancy above 0.1. In
    validation and test its matches are the sentences of relevancy 1, and graded relevancies are
    kept. Validation is a share of the training clips (``data.held_out``), by a hash of their ids,
    without clips that have no sentence of relevancy 1.

    Args:
        config: source; features, a file by narration_id or "synthetic"; label, one of noun, verb
            and verb_noun, or None.
        splits: those wanted.

    Raises:
        FileNotFoundError: annotations or features that are not there.
        ValueError: no features, a clip without any, another label, other numbers of clips than
            published (unless ``data.limit`` is set).
    """
    if not config.features or config.frames:
        raise ValueError(
            "epic_kitchens is trained on features of its clips: set data.features=FILE (by "
            "narration_id) or data.features=synthetic, with model.image=features and data.frames=0"
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
    table = None if config.features == SYNTHETIC else load_features(config.features)
    root, strict = root_of(config.source), config.limit is None
    parts: set[epic_files.Split] = {"test" if s == "test" else "train" for s in splits}
    whole = {part: _annotations(root, part, strict) for part in sorted(parts)}
    return {
        split: _split(config, split, whole["test" if split == "test" else "train"], table)
        for split in splits
    }


@lru_cache(maxsize=2)
def _annotations(root: Path, part: epic_files.Split, strict: bool) -> EpicKitchens:
    """Those of a split, kept for the next run of this process."""
    return load_epic_kitchens(root, part, strict=strict)


def _split(
    config: DataConfig, split: Split, whole: EpicKitchens, table: FeatureTable | None
) -> PairData:
    clips = torch.arange(len(whole))
    if split != "test":
        held = torch.tensor([place(name) < config.held_out for name in whole.narration_id])
        clips = clips[held if split == "val" else ~held]
    if config.limit is not None and config.limit < len(clips):
        clips = clips[torch.linspace(0, len(clips) - 1, config.limit).round().long()]
    relevancy = _relevancy(whole, clips)
    if split == "train":
        return _trained(config, whole, clips, relevancy, table)
    return _searched(config, whole, clips, relevancy, table)


def _trained(
    config: DataConfig,
    whole: EpicKitchens,
    clips: Tensor,
    relevancy: Relevancy,
    table: FeatureTable | None,
) -> PairData:
    texts = list(whole.sentences.text)
    nearest = relevancy.table[:, relevancy.cols].argmax(dim=1)[relevancy.rows].tolist()
    own = [[sentence] for sentence in nearest]
    found = _pairs(config, whole, clips, texts, own, table)
    return dataclasses.replace(found, drawn=Candidates(relevancy, THRESHOLD))


def _searched(
    config: DataConfig,
    whole: EpicKitchens,
    clips: Tensor,
    relevancy: Relevancy,
    table: FeatureTable | None,
) -> PairData:
    exact = relevancy.dense() == 1
    rows, columns = exact.any(dim=1), exact.any(dim=0)
    exact = exact[rows][:, columns]
    texts = [whole.sentences.text[j] for j in columns.nonzero().flatten().tolist()]
    own = [row.nonzero().flatten().tolist() for row in exact]
    found = _pairs(config, whole, clips[rows], texts, own, table)
    kept = Relevancy(relevancy.table, relevancy.rows[rows], relevancy.cols[columns])
    return dataclasses.replace(found, relevancy=kept)


def _pairs(
    config: DataConfig,
    whole: EpicKitchens,
    clips: Tensor,
    texts: list[str],
    own: list[list[int]],
    table: FeatureTable | None,
) -> PairData:
    chosen = clips.tolist()
    names = [whole.narration_id[i] for i in chosen]
    labels = None if config.label is None else whole.labels(config.label)  # type: ignore[arg-type]
    features = synthetic_features(whole, clips) if table is None else _of(table, names)
    content = (names, texts, own, SYNTHETIC if table is None else table.fingerprint)
    return PairData(
        images=features,
        captions=[[texts[j] for j in row] for row in own],
        alternatives=[""] * len(chosen),
        keywords=[[] for _ in chosen],
        labels=None if labels is None else [str(labels[i]) for i in chosen],
        fingerprint=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32],
        candidates=(texts, own),
    )


def _of(table: FeatureTable, names: Sequence[str]) -> Tensor:
    """(n, d) float32; of several vectors of a clip the mean."""
    rows = table.select(names).float()
    return rows if rows.dim() == 2 else rows.flatten(1, -2).mean(dim=1)


def _relevancy(whole: EpicKitchens, clips: Tensor) -> Relevancy:
    actions: list[Action] = [
        (int(whole.verb[i]), frozenset(whole.nouns[i])) for i in clips.tolist()
    ]
    sentences: list[Action] = [
        (verb, frozenset(nouns))
        for verb, nouns in zip(whole.sentences.verb.tolist(), whole.sentences.nouns, strict=True)
    ]
    return Relevancy.from_actions(actions, sentences, progress=len(actions) > 10_000)


def synthetic_features(whole: EpicKitchens, clips: Tensor) -> Tensor:
    """Features that stand for real ones where there are none: not of any video.

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

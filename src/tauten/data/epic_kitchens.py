"""EPIC-KITCHENS-100 multi-instance retrieval: annotations, relevancy, clusters.

Damen et al., "Rescaling Egocentric Vision", IJCV 2022. The videos are not read here: a clip is a
video's name and a range of seconds. Where they lie is in ``epic_videos``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tauten.data.array_pickle import read_array
from tauten.data.check import Finding, equal
from tauten.data.epic_files import (
    SOURCE,
    ClipRow,
    Nouns,
    SentenceRow,
    Split,
    epic_classes,
    read_clips,
    read_sentences,
)
from tauten.data.relevancy import Relevancy
from tauten.files import expanded
from tauten.structure.counts import class_counts

By = Literal["noun", "verb", "verb_noun"]

#: published numbers
SEGMENTS = {"train": 67_217, "test": 9_668}
SENTENCES = {"train": 15_989, "test": 3_842}
CLASSES = {"verb": 97, "noun": 300}


@dataclass(frozen=True, eq=False)
class Sentences:
    """The M distinct sentences of a split: the columns of its relevancy.

    Attributes:
        clip: (M,) int64, the clip that stands for each sentence; its classes are the sentence's.
            The official evaluation takes the texts of these clips.
        text: for test the narration of that clip, as the official evaluation takes it; for train
            the text of the sentence file, as the official training does. The two differ in the
            last few rows of each file, where the published text is that of another clip.
        verb: (M,) int64 verb class.
        nouns: noun classes of each.
    """

    clip: Tensor
    text: tuple[str, ...]
    verb: Tensor
    nouns: tuple[Nouns, ...]

    def __len__(self) -> int:
        return len(self.clip)


@dataclass(frozen=True, eq=False)
class EpicKitchens:
    """The N clips of a split: the rows of its relevancy.

    Attributes:
        split: "train" or "test".
        narration_id: "P01_11_0", unique.
        video_id: "P01_11"; the participant is what stands before the underscore.
        seconds: (N, 2) float64, start and end.
        frame_numbers: (N, 2) int64, the official start and stop frame, -1 where the annotations
            have none.
        narration: text, or None where the annotations have none.
        verb: (N,) int64 verb class.
        nouns: noun classes of each clip, the main one first.
        first_noun_only: (N,) bool, whether further nouns of the clip may be missing from `nouns`.
        sentence: (N,) int64, the clip's own sentence, -1 where it is not known.
        sentences: the sentences of the split.
    """

    split: Split
    narration_id: tuple[str, ...]
    video_id: tuple[str, ...]
    seconds: Tensor
    frame_numbers: Tensor
    narration: tuple[str | None, ...]
    verb: Tensor
    nouns: tuple[Nouns, ...]
    first_noun_only: Tensor
    sentence: Tensor
    sentences: Sentences

    def __len__(self) -> int:
        return len(self.narration_id)

    def frames(self, clip: int, fps: float) -> tuple[int, int]:
        """Return the frames [first, stop) of a clip, counted from 0, at least one."""
        start, end = (round(float(second) * fps) for second in self.seconds[clip])
        return start, max(end, start + 1)

    def labels(self, by: By = "noun") -> list[int] | list[tuple[int, int]]:
        """Return the class of each clip: its main noun, its verb, or both."""
        verbs, nouns = self.verb.tolist(), [nouns[0] for nouns in self.nouns]
        if by == "verb_noun":
            return list(zip(verbs, nouns, strict=True))
        if by not in ("noun", "verb"):
            raise ValueError(f"by must be 'noun', 'verb' or 'verb_noun', got {by!r}")
        return nouns if by == "noun" else verbs

    def per_sample_counts(self, by: By = "noun") -> Tensor:
        """Return (N,) int64, clips of each clip's class: what `tauten.mmts` takes.

        The released MM-TS code clusters by the main noun.
        """
        return class_counts(self.labels(by))

    def relevancy(self, *, progress: bool = True) -> Relevancy:
        """Return the relevancy of clips and sentences, from their classes."""
        return Relevancy.from_actions(
            list(zip(self.verb.tolist(), map(frozenset, self.nouns), strict=True)),
            list(
                zip(self.sentences.verb.tolist(), map(frozenset, self.sentences.nouns), strict=True)
            ),
            progress=progress,
        )


def load_epic_kitchens(root: str | Path, split: Split, *, strict: bool = True) -> EpicKitchens:
    """Read the annotations of a split, .csv or .csv.gz.

    Needed are `EPIC_100_retrieval_SPLIT.csv` and `EPIC_100_retrieval_SPLIT_sentence.csv`. Where the
    former is missing for train, `train_segments_67217.csv` is read: it knows a clip's first noun
    only, and no narration. Clips that stand for a sentence get the nouns of the sentence;
    `first_noun_only` marks the others, of which relevancy to sentences with further nouns is only
    approximate.

    Args:
        root: the folder of the files, or one above `retrieval_annotations`.
        split: "train" or "test".
        strict: refuse numbers of clips, sentences and classes other than the published ones. Set
            it to False for a part of the data.

    Raises:
        FileNotFoundError: a file is missing, with where to get it.
        ValueError: a column is missing or a cell is no class, number or time, with file and row;
            with `strict` every count that differs.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    folder = expanded(root)
    clips = read_clips(folder, split)
    data = _assembled(split, clips, read_sentences(folder, split, clips))
    wrong = [f for f in _findings(data) if not f.ok and f.fatal]
    if strict and wrong:
        lines = "; ".join(f"{f.name}: {f.found}, published {f.expected}" for f in wrong)
        raise ValueError(f"{root}: {lines}. Are the files whole? If not, {SOURCE}")
    return data


def load_published_relevancy(
    path: str | Path, data: EpicKitchens, *, progress: bool = True
) -> Relevancy:
    """Read `caption_relevancy_EPIC_100_retrieval_SPLIT.pkl`, the matrix that published numbers use.

    The file may hold nothing but one array of numbers; anything else is refused before it is run.
    The published training matrix has 15,990 columns for the 15,989 sentences of the csv file: the
    last is left out, as the public loaders do. That columns and sentences are the same is checked
    by the clip that stands for each sentence, whose relevancy must be 1. The order of the last
    few columns was drawn by chance when the file was made, so that up to 1 % may fail.

    Args:
        path: the file.
        data: the annotations of its split.
        progress: whether to show a progress bar.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an array of numbers, another shape, or columns of other sentences.
    """
    matrix = read_array(path)
    n, m = len(data), len(data.sentences)
    if matrix.shape == (n, m + 1):
        matrix = matrix[:, :m]
    if matrix.shape != (n, m):
        raise ValueError(
            f"{path}: the matrix is {' x '.join(f'{s:,}' for s in matrix.shape)}, but the "
            f"{data.split} split has {n:,} clips and {m:,} sentences (one column more is usual)"
        )
    relevancy = Relevancy.from_matrix(matrix, progress=progress)
    off = (relevancy.of(data.sentences.clip, torch.arange(m)) != 1).nonzero().flatten().tolist()
    if len(off) > 0.01 * m:
        raise ValueError(
            f"{path}: {len(off):,} of {m:,} sentences have a relevancy other than 1 to the clip "
            f"that stands for them, first: number {off[0]}: it was made for other sentences"
        )
    return relevancy


def check_epic_kitchens(root: str | Path) -> list[Finding]:
    """Compare the annotations in a folder with what was published.

    Returns:
        Findings for every split, class and tail file; what cannot be read is one of them.
    """
    findings: list[Finding] = []
    for split in ("train", "test"):
        try:
            data = load_epic_kitchens(root, split, strict=False)
        except (FileNotFoundError, ValueError) as error:
            expected = SEGMENTS[split]
            findings.append(Finding(f"{split} clips", None, expected, False, str(error)))
        else:
            findings += _findings(data)
    try:
        classes = epic_classes(root)
    except (FileNotFoundError, ValueError) as error:
        return [*findings, Finding("classes", None, None, False, str(error), fatal=False)]
    remedy = f"the class files are cut: {SOURCE}"
    return [
        *findings,
        equal("verb classes", len(classes.verbs), CLASSES["verb"], remedy),
        equal("noun classes", len(classes.nouns), CLASSES["noun"], remedy),
    ]


def _findings(data: EpicKitchens) -> list[Finding]:
    split, remedy = data.split, f"the files are cut or of another version: {SOURCE}"
    verbs = torch.cat([data.verb, data.sentences.verb])
    nouns = [noun for group in (data.nouns, data.sentences.nouns) for row in group for noun in row]
    unknown = sum(
        int(not 0 <= number < CLASSES[kind])
        for kind, numbers in (("verb", verbs.tolist()), ("noun", nouns))
        for number in numbers
    )
    whole = int((~data.first_noun_only).sum())
    return [
        equal(f"{split} clips", len(data), SEGMENTS[split], remedy),
        equal(f"{split} sentences", len(data.sentences), SENTENCES[split], remedy),
        equal(f"{split} distinct clip names", len(set(data.narration_id)), SEGMENTS[split], remedy),
        equal(f"{split} class numbers outside 97 verbs, 300 nouns", unknown, 0, remedy),
        equal(
            f"{split} clips with all nouns",
            whole,
            len(data),
            f"EPIC_100_retrieval_{split}.csv has all nouns of each clip: {SOURCE}",
            fatal=False,
        ),
    ]


def _assembled(split: Split, clips: list[ClipRow], sentences: list[SentenceRow]) -> EpicKitchens:
    place = {clip.narration_id: n for n, clip in enumerate(clips)}
    numbers: dict[object, int] = {}
    for n, sentence in enumerate(sentences):
        for key in _keys(clips[place[sentence.narration_id]]):
            numbers.setdefault(key, n)
    return EpicKitchens(
        split=split,
        narration_id=tuple(clip.narration_id for clip in clips),
        video_id=tuple(clip.video_id for clip in clips),
        seconds=torch.tensor([clip.seconds for clip in clips], dtype=torch.float64),
        frame_numbers=torch.tensor([clip.frames or (-1, -1) for clip in clips]),
        narration=tuple(clip.narration for clip in clips),
        verb=torch.tensor([clip.verb for clip in clips]),
        nouns=tuple(clip.nouns for clip in clips),
        first_noun_only=torch.tensor([not clip.whole for clip in clips]),
        sentence=torch.tensor(
            [next((numbers[key] for key in _keys(clip) if key in numbers), -1) for clip in clips]
        ),
        sentences=Sentences(
            clip=torch.tensor([place[sentence.narration_id] for sentence in sentences]),
            text=tuple(sentence.text for sentence in sentences),
            verb=torch.tensor([sentence.verb for sentence in sentences]),
            nouns=tuple(sentence.nouns for sentence in sentences),
        ),
    )


def _keys(clip: ClipRow) -> list[object]:
    """Return what a clip may share with the one that stands for its sentence, best first."""
    name = ("name", clip.narration_id)
    if clip.narration is None:
        return [name]
    return [name, (clip.narration, clip.verb, frozenset(clip.nouns)), clip.narration]

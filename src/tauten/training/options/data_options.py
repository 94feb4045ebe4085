"""Options of the data to train and evaluate on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tauten.spec import SELDOM, Range, Share, When

#: where options have meaning
_PAIRS = When("task", ("pairs",))
_OWN = When("data.source", but=("emoji_lt",))
_PICTURES = When("data.texts", (False,))
_FEATURES = When("model.image", ("features",))
_CUT, _CLIPS, _STREAM = When("data.edge"), When("data.frames"), When("data.stream")


@dataclass
class DataConfig:
    """Data to train and evaluate on."""

    source: str = "emoji_lt"
    """emoji_lt (embedded), or a folder, parquet, json(l), csv or WebDataset tar of pairs, or
    NAME:FOLDER with a name of 'tauten data list', such as emoji_video:data, or a data set of the
    Hugging Face hub, hf:ORG/NAME, perhaps with :CONFIGURATION and @SPLIT"""
    val: Annotated[str | None, _OWN] = None
    """the validation pairs; by default a split column, else a share of the source. Of NAME:FOLDER
    the validation split is taken"""
    test: Annotated[str | None, _OWN] = None
    """the test pairs; by default a split column, else a share of the source. Of NAME:FOLDER the
    test split is taken"""
    protocol: Literal["all", "1k", "5k", "1k-of-5k"] = "all"
    """how the test split is searched. all: every caption of every image, equal ones once; the
    others as published for Flickr30K and MSCOCO: so many images, the first five captions of each,
    all of them candidates; 1k-of-5k: mean over five thousands"""
    features: Annotated[str | None, _FEATURES] = None
    """epic_kitchens without videos: a file of features of the clips by their narration_id (.npy,
    .safetensors, .tar), for model.image=features; synthetic: made of the classes with noise, to try
    things out"""
    held_out: Annotated[float, Range(0.0, 0.5, above=True, below=True), _OWN] = 0.1
    """share of the source for each of val and test where they are not given; all pairs of one
    image, or of one caption that few pairs have, stay together"""
    texts: Annotated[bool, _OWN, _PAIRS] = False
    """the column data.image holds texts, one for each sample: both sides are texts, and go through
    the text tower and its projection"""
    image: Annotated[str, _OWN] = "image"
    """name of the image column, or with data.texts of the first texts, which may be that of the
    captions"""
    caption: Annotated[str, _OWN] = "caption"
    """name of the caption column"""
    others: Annotated[tuple[str, ...], _PAIRS, _PICTURES, SELDOM] = ()
    """columns of further pictures of each sample, such as a second view, each of which is a
    modality with a tower of its own. A sample may lack any of them, its image and its caption too,
    if it has two. emoji_lt has another: a second drawing of every second concept"""
    negatives: Annotated[str | None, _PAIRS, SELDOM] = None
    """name of a column of texts, one or a list for each sample, that are wrong for it, such as a
    caption with one word changed: hard negatives that this sample alone meets, which family infonce
    and others take; the evaluation has compositional/accuracy. emoji_lt has one_apart: captions of
    other emoji that differ in one attribute"""
    negatives_drawn: Annotated[int, Range(0, 1024), When("data.negatives")] = 0
    """at most this many of a sample's negatives in a batch, drawn anew each time; 0 for all"""
    unseen: Annotated[int, Range(0, 100_000), When("data.texts")] = 0
    """recommendation: all captions of training are searched, too, but for those that a first text
    has there, and recall and NDCG are told at this k (unseen/recall@20); 0 for no such"""
    label: str | None = None
    """name of the class column whose counts define head, mid and tail, and the mmts shift"""
    clusters: Annotated[int, Range(0)] = 0
    """without a label: number of caption clusters to use as classes; 0 for none"""
    head: Annotated[int, Range(1)] = 100
    """classes with at least this many training samples are head"""
    tail: Annotated[int, Range(1)] = 20
    """classes with fewer training samples than this are tail"""
    groups: Literal["counts", "thirds"] = "counts"
    """head, mid and tail classes: by these counts, or by thirds of the classes, as for CIFAR-LT"""
    image_size: Annotated[int, Range(0, 4096), _PICTURES] = 32
    """images are squashed to squares of this many pixels; 0: brought to the size that the
    pretrained image model was trained with, by its crop and filter, which data.edge and
    data.resample become"""
    edge: Annotated[int, Range(0, 8192), _PICTURES, SELDOM] = 0
    """the shorter side is scaled to this many pixels, of which the middle square of data.image_size
    is cut out; 0: the whole image is squashed"""
    resample: Annotated[
        Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"], _PICTURES, SELDOM
    ] = "bicubic"
    """the filter that images are resized with"""
    crop: Annotated[Literal["down", "even"], _CUT] = "down"
    """where the middle square begins if half of what is cut off is no whole pixel: rounded down, as
    in transformers, or to the even number, as in torchvision and open_clip"""
    draft: Annotated[bool, _OWN, _PICTURES] = False
    """decode a JPEG that is at least twice as large as needed to a half, a quarter or an eighth of
    its sides, in 0.4 to 0.6 of the time; pixels change by about 1 of 255"""
    frames: Annotated[int, Range(0, 4096), _PICTURES, SELDOM] = 0
    """evenly spaced frames of each clip; 0: images. Clips are strips (data.strip), or videos:
    data.image is then their column, or their extension, such as mp4, in a folder or tar. Of a split
    of more than 2 GiB, and of epic_kitchens, videos are read batch by batch, and in training each
    frame is drawn from its segment"""
    strip: Annotated[int, Range(0, 4096), _CLIPS] = 0
    """frames side by side in each picture; 0: the pictures are no strips"""
    relevancy: Annotated[Literal["none", "names"], SELDOM] = "none"
    """names: how relevant captions are to each other by the rule for names of emoji, which adds
    multi-instance metrics, and which family sms needs; epic_kitchens has relevancies of its own"""
    strict: bool = False
    """an unreadable image or clip ends the run instead of being skipped"""
    allow_truncated: Annotated[bool, _OWN] = False
    """use the whole members of a tar that is cut, instead of refusing it"""
    limit: Annotated[int | None, Range(1)] = None
    """use at most this many samples of each split, evenly spaced"""
    alternative: Annotated[Share, _PAIRS, SELDOM] = 0.0
    """probability in training of the column alt_caption instead of the caption, if there is one"""
    keywords: Annotated[Share, _PAIRS, SELDOM] = 0.0
    """probability in training that a random half of the column keywords is added to the caption"""
    span_low: Annotated[float, Range(0.0, 1.0, above=True), _PAIRS, SELDOM] = 1.0
    """shortest share of the words of a text that training shows, a random span of it; of both sides
    with data.texts (Contriever: 0.1)"""
    span_high: Annotated[float, Range(0.0, 1.0, above=True), _PAIRS, SELDOM] = 1.0
    """longest share of the words of that span (Contriever: 0.5); 1 and 1 for the whole text"""
    left_out: Annotated[Share, _PAIRS, SELDOM] = 0.0
    """probability in training that a word of a text is left out, of both sides with data.texts
    (Contriever: 0.1)"""
    repeated: Annotated[Share, _PAIRS, SELDOM] = 0.0
    """largest share of a caption's words that training says twice (ESimCSE: 0.32)"""
    stream: Annotated[bool, _OWN] = False
    """read training pictures where they lie, in WebDataset tars or parquet files, batch by batch;
    val and test are needed and stay in memory"""
    buffer: Annotated[int, Range(1), _STREAM] = 8192
    """stream: samples that are shuffled with each other, of neighbours in runs of 256 or row
    groups; most rows of parquet files in memory"""
    workers: Annotated[int, Range(0, 1024), _OWN] = 0
    """processes that make batches ahead, of each training process: they decode what is streamed,
    gather pictures and tokenise; they change no batch. Videos that are read batch by batch: threads
    that decode, 0 for one for each core"""
    ahead: Annotated[bool, _CLIPS] = False
    """videos that are read batch by batch: decode the next batch while a step is computed. A
    frame's place in its segment then follows from seed, epoch and clip; else clips are decoded in
    the step, and its generator draws the places"""

    @property
    def graded(self) -> bool:
        """True where the data say how relevant each caption is to each image."""
        return self.relevancy != "none" or self.source.startswith("epic_kitchens:")

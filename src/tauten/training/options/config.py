"""The configuration of one training run: nested dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tauten.models.augmentation_options import AugmentationConfig, ViewConfig
from tauten.spec import ControlSpec, LossSpec, When
from tauten.training.options.compute_rules import check_compute
from tauten.training.options.further import check_further
from tauten.training.options.protect import ProtectConfig, check_protected
from tauten.training.options.ranges import check_values
from tauten.training.options.stream_rules import check_stream
from tauten.training.options.term_weights import TermsConfig
from tauten.training.options.text_rules import check_texts
from tauten.training.specs import control, loss, task

#: where options have meaning
_PAIRS, _VIEWS = When("task", ("pairs",)), When("task", ("views",))
_OWN = When("data.source", but=("emoji_lt",))
_PICTURES = When("data.texts", (False,))
_FEATURES = When("model.image", ("features",))
_CONVOLUTIONAL = When("model.image", ("convolutional",))
_MAPS = When("model.image", ("convolutional", "efficientnet-lite0"))
_OWN_TEXT = When("model.text", ("words", "ngrams"))
_OTHER_TEXT = When("model.text", but=("words", "ngrams"))
_CUT, _CLIPS, _STREAM = When("data.edge"), When("data.frames"), When("data.stream")
_LORA = When("model.lora")
_ADAMW = When("optim.name", ("adamw", "am-adamw"))
_MOMENTUM = When("optim.name", ("sgd", "lars", "am-sgd", "am-adamw"))
_MEMORY = When("optim.name", ("am-sgd", "am-adamw"))


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
    held_out: Annotated[float, _OWN] = 0.1
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
    others: Annotated[tuple[str, ...], _PAIRS, _PICTURES] = ()
    """columns of further pictures of each sample, such as a second view, each of which is a
    modality with a tower of its own. A sample may lack any of them, its image and its caption too,
    if it has two. emoji_lt has another: a second drawing of every second concept"""
    negatives: Annotated[str | None, _PAIRS] = None
    """name of a column of texts, one or a list for each sample, that are wrong for it, such as a
    caption with one word changed: hard negatives that this sample alone meets, which family infonce
    and others take; the evaluation has compositional/accuracy. emoji_lt has one_apart: captions of
    other emoji that differ in one attribute"""
    negatives_drawn: Annotated[int, When("data.negatives")] = 0
    """at most this many of a sample's negatives in a batch, drawn anew each time; 0 for all"""
    unseen: Annotated[int, When("data.texts")] = 0
    """recommendation: all captions of training are searched, too, but for those that a first text
    has there, and recall and NDCG are told at this k (unseen/recall@20); 0 for no such"""
    label: str | None = None
    """name of the class column whose counts define head, mid and tail, and the mmts shift"""
    clusters: int = 0
    """without a label: number of caption clusters to use as classes; 0 for none"""
    head: int = 100
    """classes with at least this many training samples are head"""
    tail: int = 20
    """classes with fewer training samples than this are tail"""
    groups: Literal["counts", "thirds"] = "counts"
    """head, mid and tail classes: by these counts, or by thirds of the classes, as for CIFAR-LT"""
    image_size: Annotated[int, _PICTURES] = 32
    """images are squashed to squares of this many pixels; 0: brought to the size that the
    pretrained image model was trained with, by its crop and filter, which data.edge and
    data.resample become"""
    edge: Annotated[int, _PICTURES] = 0
    """the shorter side is scaled to this many pixels, of which the middle square of data.image_size
    is cut out; 0: the whole image is squashed"""
    resample: Annotated[
        Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"], _PICTURES
    ] = "bicubic"
    """the filter that images are resized with"""
    crop: Annotated[Literal["down", "even"], _CUT] = "down"
    """where the middle square begins if half of what is cut off is no whole pixel: rounded down, as
    in transformers, or to the even number, as in torchvision and open_clip"""
    frames: Annotated[int, _PICTURES] = 0
    """evenly spaced frames of each clip; 0: images. Clips are strips (data.strip), or videos:
    data.image is then their column, or their extension, such as mp4, in a folder or tar. Of a split
    of more than 2 GiB, and of epic_kitchens, videos are read batch by batch, and in training each
    frame is drawn from its segment"""
    strip: Annotated[int, _CLIPS] = 0
    """frames side by side in each picture; 0: the pictures are no strips"""
    relevancy: Literal["none", "names"] = "none"
    """names: how relevant captions are to each other by the rule for names of emoji, which adds
    multi-instance metrics, and which family sms needs; epic_kitchens has relevancies of its own"""
    strict: bool = False
    """an unreadable image or clip ends the run instead of being skipped"""
    allow_truncated: Annotated[bool, _OWN] = False
    """use the whole members of a tar that is cut, instead of refusing it"""
    limit: int | None = None
    """use at most this many samples of each split, evenly spaced"""
    alternative: Annotated[float, _PAIRS] = 0.0
    """probability in training of the column alt_caption instead of the caption, if there is one"""
    keywords: Annotated[float, _PAIRS] = 0.0
    """probability in training that a random half of the column keywords is added to the caption"""
    span_low: Annotated[float, _PAIRS] = 1.0
    """shortest share of the words of a text that training shows, a random span of it; of both sides
    with data.texts (Contriever: 0.1)"""
    span_high: Annotated[float, _PAIRS] = 1.0
    """longest share of the words of that span (Contriever: 0.5); 1 and 1 for the whole text"""
    left_out: Annotated[float, _PAIRS] = 0.0
    """probability in training that a word of a text is left out, of both sides with data.texts
    (Contriever: 0.1)"""
    repeated: Annotated[float, _PAIRS] = 0.0
    """largest share of a caption's words that training says twice (ESimCSE: 0.32)"""
    stream: Annotated[bool, _OWN] = False
    """read training pictures where they lie, in WebDataset tars or parquet files, batch by batch;
    val and test are needed and stay in memory"""
    buffer: Annotated[int, _STREAM] = 8192
    """stream: samples that are shuffled with each other, of neighbours in runs of 256 or row
    groups; most rows of parquet files in memory"""
    workers: Annotated[int, _OWN] = 0
    """stream: processes that read and decode ahead, of each training process; they change no batch.
    Videos that are read batch by batch: threads that decode, 0 for one for each core"""

    @property
    def graded(self) -> bool:
        """True where the data say how relevant each caption is to each image."""
        return self.relevancy != "none" or self.source.startswith("epic_kitchens:")


@dataclass
class ModelConfig:
    """The two towers and the common space."""

    image: Annotated[str, _PICTURES] = "convolutional"
    """convolutional (built-in), efficientnet-lite0 (pretrained, no network), resnet18, 34 or 50 or
    resnet18-cifar (random weights; for small images), features (of data.features), the name or
    folder of a Hugging Face vision model (clip:NAME, siglip:NAME and open_clip:NAME too), or a
    checkpoint (.pt, .pth) of AVION or LaViLa, which has both towers"""
    text: str = "words"
    """words or ngrams (built-in), minilm (pretrained, no network), or the name or folder of a
    Hugging Face text model (clip:NAME, siglip:NAME, open_clip:NAME and st:NAME too); of CLIP's
    tokenizer where the image tower is a checkpoint of both"""
    text_pooling: Annotated[
        Literal["auto", "pooler", "first", "last", "mean", "max", "weighted_mean", "mean_sqrt_len"],
        _OTHER_TEXT,
    ] = "auto"
    """of a Hugging Face text model's tokens; first: [CLS]; auto: as saved with the model, else
    the last token of a decoder, the pooler's vector or the mean of another model"""
    random_weights: bool = False
    """take only the configuration of Hugging Face models, not their weights"""
    dim: int = 256
    """width of the common space; where both towers are one pretrained model, such as CLIP, it is
    that of the model's own space, whose projections are taken"""
    channels: Annotated[tuple[int, ...], _CONVOLUTIONAL, _PICTURES] = (48, 96, 192)
    """convolutional: output channels of each layer"""
    grid: Annotated[int, _MAPS, _PICTURES] = 4
    """convolutional, efficientnet-lite0: places per side that the last map is averaged to; 1: the
    mean over all places"""
    feature_hidden: Annotated[int, _FEATURES] = 0
    """features: width of a hidden layer before the projection; 0: none"""
    text_width: Annotated[int, _OWN_TEXT] = 256
    """words, ngrams: width of the token embeddings"""
    max_tokens: Annotated[int, _PAIRS] = 64
    """tokens kept per caption"""
    temporal: Annotated[Literal["mean", "attention"], _CLIPS] = "mean"
    """clips: how the vectors of frames become one; attention: with learned weights"""
    freeze: Annotated[Literal["none", "image", "text", "both"], _PAIRS] = "none"
    """pretrained towers that stay as they are, also in their batch normalisation and dropout;
    projections are trained"""
    lora: int = 0
    """rank of adapters (LoRA) that are trained in the place of the weights of Hugging Face towers;
    0 for none. They are in checkpoints, and merged into the weights when a run is loaded"""
    lora_alpha: Annotated[float, _LORA] = 16.0
    """what adapters are multiplied by, divided by their rank"""
    lora_towers: Annotated[Literal["image", "text", "both"], _LORA, _PAIRS] = "both"
    """towers with adapters; others are trained as they are, or frozen"""
    checkpointing: bool = False
    """Hugging Face towers compute their activations again for the gradient: less memory, about a
    third more time, the same result"""
    augment: Annotated[bool, _PICTURES] = True
    """change training images at random"""
    augmentation: Annotated[AugmentationConfig, _PAIRS, _PICTURES] = field(
        default_factory=AugmentationConfig
    )
    projector: Annotated[Literal["mlp", "linear"], _VIEWS] = "mlp"
    """views: what is between the features that are evaluated and the loss"""
    views: Annotated[ViewConfig, _VIEWS] = field(default_factory=ViewConfig)


@dataclass
class OptimConfig:
    """AdamW, SGD or LARS, with linear warm-up and cosine decay."""

    name: Literal["adamw", "sgd", "lars", "am-sgd", "am-adamw"] = "adamw"
    """sgd: with momentum, and weight decay on all of the towers' parameters, as TS; lars: with a
    rate for each matrix, as iSogCLR; am-sgd, am-adamw: with a momentum that each step's gradient
    sets (adaptive memory)"""
    epochs: float = 12.0
    """passes over the training split"""
    batch_size: int = 128
    """pairs of a batch, of all processes together; the last, incomplete batch of an epoch is left
    out"""
    accumulation: int = 1
    """batches per optimiser step, each with its own negatives"""
    chunk: Annotated[int | None, _PAIRS] = None
    """pairs whose activations are held at a time; larger batches are encoded in such parts, and
    again for the gradient, with the same result. Towers must not normalise over the batch"""
    lr: float = 2e-3
    """peak learning rate"""
    min_lr: float = 0.0
    """what the learning rate decays to"""
    tower_lr: float | None = None
    """peak learning rate of the towers, lower than lr where they are pretrained; the projections
    keep lr; default: lr"""
    loss_lr: float | None = None
    """peak learning rate of the loss's own parameters (learnable τ, networks that predict τ, bias);
    default: lr"""
    weight_decay: float = 0.05
    """of matrices; biases, norms and the loss's parameters have none"""
    warmup: float = 0.15
    """share of the steps in which the learning rate rises"""
    beta2: Annotated[float, _ADAMW] = 0.98
    """AdamW's decay of squared gradients"""
    momentum: Annotated[float, _MOMENTUM] = 0.9
    """of sgd and lars; of am-sgd and am-adamw the largest"""
    memory: Annotated[float, _MEMORY] = 0.1
    """how much a step is held near the momentum's own"""
    max_grad_norm: float = 0.0
    """gradients are scaled down to this norm; 0 for never"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16: the towers compute in bfloat16; weights, loss and evaluation stay in float32. fp16: in
    float16, with scaled losses, on a GPU; steps whose gradients overflow are left out, and the
    controls and tables stay where they are"""
    compile: bool = False
    """torch.compile the towers; the first steps take minutes"""


@dataclass
class EvaluationConfig:
    """Evaluation: when and how. The best checkpoint is chosen on the validation split only."""

    every: float = 2.0
    """epochs between evaluations, each with a checkpoint"""
    metric: str = "mean_recall"
    """what the best checkpoint is chosen by: mean_recall (mean of hit@1, 5, 10 both ways),
    class_map (same-class mAP over both modalities and within each), or any other metric of the
    validation where higher is better, such as x2y/hit@1/tail or class/x2x/mAP; for views such as
    knn@10/class_mean, or last for the last checkpoint"""
    probe: Annotated[Literal["svm", "sgd", "none"], _VIEWS] = "svm"
    """views: linear probe of the final features; svm is that of TS and needs scikit-learn, sgd that
    of iSogCLR"""
    bootstrap: int = 1000
    """replicates of the 95 % intervals of the final metrics"""
    batch_size: int = 512
    """samples encoded at a time"""


@dataclass
class Config:
    """One training run."""

    name: str = "run"
    """shown in tables and reports"""
    task: str = "pairs"
    """pairs: images and texts; views: two random views of each image, of one modality"""
    control: ControlSpec = field(default_factory=control)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossSpec = field(default_factory=loss)
    terms: TermsConfig = field(default_factory=TermsConfig)
    protect: ProtectConfig = field(default_factory=ProtectConfig)
    losses: tuple[str, ...] = ()
    """with data.others: losses beside that of image and caption, each a text of two modalities
    (image, caption, columns of data.others) and its options, such as "back+caption weight=0.5
    family=infonce control.kind=learnable control.value=0.05", or with term=alignment, uniformity,
    ... a term; by default one of each other two modalities, with the loss and the control of the
    run, each a control of its own"""
    optim: OptimConfig = field(default_factory=OptimConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    init: str | None = None
    """a run, or one of its checkpoints, whose weights the training starts from; parts of another
    shape begin anew and are named. On the command line the options of the model are then by default
    those of that run"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one; CUDA_VISIBLE_DEVICES chooses among several"""
    seed: int = 0
    """of weights, batches and augmentation"""
    runlocal: bool = False
    """a trial of about a minute on two cores: small towers, few steps, small data (--data
    NAME:FOLDER, else emoji_lt). Its numbers say nothing about the published ones"""
    log_every: int = 5
    """optimiser steps between lines of history.jsonl and TensorBoard"""
    checkpoint: Literal["whole", "sharded"] = "whole"
    """sharded: all processes write their share of weights, optimiser state and tables"""
    output: Path = Path("runs/run")
    """folder of this run; the only place that is written to"""
    overwrite: bool = False
    """start anew in a folder that holds an earlier run; files that are not ours stay"""
    progress: bool = True
    """show progress bars"""
    tensorboard: bool = True
    """write TensorBoard events"""
    report_to: tuple[str, ...] = ()
    """loggers that transformers knows, such as wandb, mlflow or trackio. Each gets the options of
    the run, losses, τ and forces by group, and the metrics of validation and test; it writes where
    its own settings say"""

    def __post_init__(self) -> None:
        self.validate()

    @property
    def family(self) -> str:
        """Name of the loss."""
        return self.loss.kind

    def validate(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the field, its value and what it may be.
        """
        check_values(self)
        self.loss.check(self.control)
        if self.optim.min_lr > self.optim.lr:
            raise ValueError(
                f"optim.min_lr must be in [0, optim.lr={self.optim.lr}], got {self.optim.min_lr}"
            )
        if self.data.clusters == 1:
            raise ValueError(
                "data.clusters must be 2 or more, or 0 for none, got 1: one cluster holds all"
            )
        if not self.model.channels:
            raise ValueError("model.channels must name one layer or more, got none")
        task(self.task).check(self)
        check_stream(self.data, self.task)
        check_texts(self.data, self.model, self.task)
        check_further(self)
        check_protected(self)
        check_compute(self.model, self.optim.precision, self.task, anew=self.init is None)
        self._check_clips()
        self._check_splits()
        self._check_spans()
        if (self.model.image == "features") != (self.data.features is not None):
            raise ValueError(
                "model.image=features and data.features=FILE belong together, got "
                f"model.image={self.model.image} and data.features={self.data.features}"
            )
        if self.data.tail > self.data.head:
            raise ValueError(
                f"data.tail and data.head must be 1 <= tail <= head, got {self.data.tail} and "
                f"{self.data.head}"
            )

    def _check_splits(self) -> None:
        data = self.data
        if data.source == "emoji_lt" and (data.val is not None or data.test is not None):
            raise ValueError(
                "data.source=emoji_lt has splits of its own: leave data.val and data.test out, got "
                f"{data.val} and {data.test}"
            )
        if data.protocol != "all" and (
            data.source == "emoji_lt" or data.source.startswith("epic_kitchens:")
        ):
            raise ValueError(
                f"data.protocol={data.protocol} is of Flickr30K and MSCOCO: {data.source} is "
                "searched with data.protocol=all"
            )

    def _check_spans(self) -> None:
        low, high = self.data.span_low, self.data.span_high
        if low > high:
            raise ValueError(
                f"data.span_low must be at most data.span_high={high}, got {low}: give both, such "
                "as 0.1 and 0.5"
            )

    def _check_clips(self) -> None:
        frames, strip = self.data.frames, self.data.strip
        if strip and not 1 <= frames <= strip:
            raise ValueError(
                "data.frames must be 0 or more, and with strips 1 to data.strip, got "
                f"{frames} and data.strip={strip}"
            )
        if self.loss.relevance != "none" and not self.data.graded:
            raise ValueError(
                f"family={self.family} needs "
                "to know how relevant captions are: set data.relevancy, or train on epic_kitchens"
            )

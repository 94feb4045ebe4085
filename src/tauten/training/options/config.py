"""The configuration of one training run: nested dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tauten.spec import ControlSpec, Decay, Level, LossSpec, Periods, Range, Rate, Share, When
from tauten.training.options.compute_rules import check_compute
from tauten.training.options.data_options import DataConfig
from tauten.training.options.data_rules import check_data
from tauten.training.options.further import check_further
from tauten.training.options.model_options import ModelConfig
from tauten.training.options.protect import ProtectConfig, check_protected
from tauten.training.options.ranges import check_rules, check_values
from tauten.training.options.stream_rules import check_stream
from tauten.training.options.term_weights import TermsConfig
from tauten.training.options.text_rules import check_texts
from tauten.training.specs import control, loss, task

__all__ = ["Config", "DataConfig", "EvaluationConfig", "ModelConfig", "OptimConfig"]

#: where options have meaning
_PAIRS, _VIEWS = When("task", ("pairs",)), When("task", ("views",))
_ADAMW = When("optim.name", ("adamw", "am-adamw"))
_MOMENTUM = When("optim.name", ("sgd", "lars", "am-sgd", "am-adamw"))
_MEMORY = When("optim.name", ("am-sgd", "am-adamw"))


@dataclass
class OptimConfig:
    """AdamW, SGD or LARS, with linear warm-up and cosine decay."""

    name: Literal["adamw", "sgd", "lars", "am-sgd", "am-adamw"] = "adamw"
    """sgd: with momentum, and weight decay on all of the towers' parameters, as TS; lars: with a
    rate for each matrix, as iSogCLR; am-sgd, am-adamw: with a momentum that each step's gradient
    sets (adaptive memory)"""
    epochs: Periods = 12.0
    """passes over the training split"""
    batch_size: Annotated[int, Range(2)] = 128
    """pairs of a batch, of all processes together; the last, incomplete batch of an epoch is left
    out"""
    accumulation: Annotated[int, Range(1)] = 1
    """batches per optimiser step, each with its own negatives"""
    chunk: Annotated[int | None, Range(1), _PAIRS] = None
    """pairs whose activations are held at a time; larger batches are encoded in such parts, and
    again for the gradient, with the same result. Towers must not normalise over the batch"""
    lr: Rate = 2e-3
    """peak learning rate"""
    min_lr: Annotated[float, Range(0.0, 1e6)] = 0.0
    """what the learning rate decays to"""
    tower_lr: Rate | None = None
    """peak learning rate of the towers, lower than lr where they are pretrained; the projections
    keep lr; default: lr"""
    loss_lr: Annotated[float | None, Range(0.0, 1e6)] = None
    """peak learning rate of the loss's own parameters (learnable τ, networks that predict τ, bias);
    default: lr"""
    weight_decay: Annotated[float, Range(0.0, 1e6)] = 0.05
    """of matrices; biases, norms and the loss's parameters have none"""
    warmup: Share = 0.15
    """share of the steps in which the learning rate rises"""
    beta2: Annotated[Decay, _ADAMW] = 0.98
    """AdamW's decay of squared gradients"""
    momentum: Annotated[Decay, _MOMENTUM] = 0.9
    """of sgd and lars; of am-sgd and am-adamw the largest"""
    memory: Annotated[Level, _MEMORY] = 0.1
    """how much a step is held near the momentum's own"""
    max_grad_norm: Annotated[float, Range(0.0, 1e6)] = 0.0
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

    every: Periods = 2.0
    """epochs between evaluations, each with a checkpoint"""
    metric: str = "mean_recall"
    """what the best checkpoint is chosen by: mean_recall (mean of hit@1, 5, 10 both ways),
    class_map (same-class mAP over both modalities and within each), or any other metric of the
    validation where higher is better, such as x2y/hit@1/tail or class/x2x/mAP; for views such as
    knn@10/class_mean, or last for the last checkpoint"""
    probe: Annotated[Literal["svm", "sgd", "none"], _VIEWS] = "svm"
    """views: linear probe of the final features; svm is that of TS and needs scikit-learn, sgd that
    of iSogCLR"""
    bootstrap: Annotated[int, Range(0, 1_000_000)] = 1000
    """replicates of the 95 % intervals of the final metrics"""
    batch_size: Annotated[int, Range(1)] = 512
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
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """of weights, batches and augmentation"""
    runlocal: bool = False
    """a trial of about a minute on two cores: small towers, few steps, small data (--data
    NAME:FOLDER, else emoji_lt). Its numbers say nothing about the published ones"""
    log_every: Annotated[int, Range(1)] = 5
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

    @property
    def form(self) -> str:
        """ "pairs" or "views": whose options the task takes."""
        return task(self.task).form

    def validate(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the field, its value and what it may be.
        """
        check_values(self)
        self.loss.check(self.control)
        least, peak = self.optim.min_lr, self.optim.lr
        check_rules(
            (least > peak, f"optim.min_lr must be in [0, optim.lr={peak}], got {least}"),
            (not self.model.channels, "model.channels must name one layer or more, got none"),
        )
        task(self.task).check(self)
        check_data(self.data, self.model.image)
        check_stream(self.data, self.form)
        check_texts(self.data, self.model, self.form)
        check_further(self)
        check_protected(self)
        check_compute(self.model, self.optim.precision, self.form, anew=self.init is None)
        if self.loss.relevance != "none" and not self.data.graded:
            raise ValueError(
                f"family={self.family} needs "
                "to know how relevant captions are: set data.relevancy, or train on epic_kitchens"
            )

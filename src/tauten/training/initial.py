"""Starting weights from another run: towers, projections, tokenizer, and the loss's parameters."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from tauten.files import expanded, read_tensors, sha256
from tauten.models import (
    BagTokenizer,
    DualEncoder,
    FeatureTower,
    TextEncoder,
    Tokenizer,
    ViewEncoder,
)
from tauten.models.tokenizers import UNKNOWN
from tauten.models.tower import Tower
from tauten.training import checkpoints
from tauten.training.evaluation import find_checkpoint
from tauten.training.options.config import Config
from tauten.training.options.config_tree import to_dict
from tauten.training.run.places import located
from tauten.training.specs import task

logger = logging.getLogger("tauten.training")

#: options of the model that a tower's shape follows from
_IMAGE = ("image", "channels", "grid", "feature_hidden")
_TEXT = ("text", "text_pooling", "text_width", "max_tokens")
#: options of the model that say how it is trained
_OF_THE_TRAINING = (
    *("random_weights", "freeze", "checkpointing"),
    *("lora", "lora_alpha", "lora_towers"),
)
_PIXELS = ("image_size", "edge", "resample", "crop")
_WEIGHTS, _LOSS = "model.safetensors", "loss_fn."


@dataclass
class Initial:
    """A run whose weights another one starts from.

    Attributes:
        run: its folder, or that of a checkpoint, as given.
        step: of the checkpoint.
        checkpoint: its folder.
        config: configuration of the run.
        encoder: with the weights.
        tokenizer: of the text tower; None for two views.
        taken: parts that the new run has begun with.
        anew: parts that begin at random or as configured, each with the reason.
    """

    run: Path
    step: int
    checkpoint: Path
    config: Config
    encoder: DualEncoder | ViewEncoder
    tokenizer: Tokenizer | None
    taken: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)

    @property
    def sum(self) -> str:
        """SHA-256 of the weights."""
        return sha256(self.checkpoint / _WEIGHTS)

    def summary(self) -> str:
        """Say what was taken and what was not."""
        new = f"; anew: {'; '.join(self.anew)}" if self.anew else ""
        return f"{', '.join(self.taken)} of {self.run.name}, step {self.step}{new}"

    def say(self) -> None:
        """Log what was taken and what was not.

        Raises:
            ValueError: no tower fits.
        """
        if not any(part.endswith("tower") for part in self.taken):
            raise ValueError(
                f"init={self.run}: no tower of that run fits: {'; '.join(self.anew)}. Leave the "
                "options of the model as they are in that run, or leave init out"
            )
        logger.warning("init: %s", self.summary())

    def tokenizer_for(self, config: Config, texts: Sequence[str]) -> Tokenizer | None:
        """Return the tokenizer of this run, if its text tower fits.

        Args:
            config: of the new run.
            texts: from which a vocabulary would be made; those without a known word are counted.
        """
        if self.tokenizer is None or not self._text_fits(config):
            return None
        unknown = [text for text in texts if len(self._words(text)) == 0]
        if unknown:
            logger.warning(
                "init: %d of %d captions have no word that the run's vocabulary knows, first: %r",
                len(unknown),
                len(texts),
                unknown[0],
            )
        return self.tokenizer

    def _words(self, text: str) -> list[int]:
        assert isinstance(self.tokenizer, BagTokenizer)
        return [number for number in self.tokenizer.encode(text) if number != UNKNOWN]

    def _text_fits(self, config: Config) -> bool:
        return isinstance(self.encoder, DualEncoder) and not self._differs(config, _TEXT)

    def dual(
        self,
        config: Config,
        images: Callable[[], Tower],
        texts: Callable[[], Tower],
        features: int = 0,
    ) -> DualEncoder:
        """Return the towers of this run where they fit, else others, with projections.

        Args:
            config: of the new run.
            images: makes an image tower where the run's does not fit.
            texts: makes a text tower.
            features: width of the vectors in the place of images; 0 for pictures.
        """
        image = None if config.data.texts else self._image(config, features)
        text = self.encoder.text_tower if isinstance(self.encoder, DualEncoder) else None
        if text is None:
            self.anew.append("text tower and tokenizer (a run of two views has none)")
        elif not self._text_fits(config):
            self.anew.append(f"text tower and tokenizer ({self._differs(config, _TEXT)})")
            text = None
        else:
            self.taken.append("tokenizer and text tower")
        second = texts() if text is None else text
        made = (
            TextEncoder(second, config.model.dim)
            if config.data.texts
            else DualEncoder(
                images() if image is None else image,
                second,
                config.model.dim,
                config.model.augmentation if config.model.augment else None,
            )
        )
        for side, tower in (("image", image), ("text", text)):
            name = f"{side}_projection"
            old = getattr(self.encoder, name, None)
            if tower is not None and old is not None:
                self._projection(made, name, old)
        self._tell_of_pixels(config)
        return made

    def views(self, config: Config, made: ViewEncoder) -> ViewEncoder:
        """Give an encoder of two views the image tower of this run, if it fits, and return it.

        Args:
            config: of the new run.
            made: the encoder as configured.
        """
        image = self._image(config, 0)
        if image is not None:
            made.tower = image
        old = getattr(self.encoder, "projector", None)
        if image is not None and old is not None:
            self._projection(made, "projector", old)
        self._tell_of_pixels(config)
        return made

    def loss(self, config: Config, loss_fn: nn.Module) -> None:
        """Set the loss's own parameters where loss and control are those of this run."""
        parameters = dict(loss_fn.named_parameters())
        if not parameters:
            return
        if (config.loss, config.control) != (self.config.loss, self.config.control):
            self.anew.append("parameters of the loss (another loss or control)")
            return
        stored = read_tensors(self.checkpoint / _WEIGHTS)
        values = {name: stored.get(f"{_LOSS}{name}") for name in parameters}
        if any(v is None or v.shape != parameters[name].shape for name, v in values.items()):
            self.anew.append("parameters of the loss (another shape)")
            return
        with torch.no_grad():
            for name, parameter in parameters.items():
                value = values[name]
                assert value is not None
                parameter.copy_(value)
        self.taken.append("parameters of the loss")

    def _image(self, config: Config, features: int) -> Tower | None:
        encoder = self.encoder
        tower: Tower = encoder.tower if isinstance(encoder, ViewEncoder) else encoder.image_tower
        if isinstance(encoder, TextEncoder):
            self.anew.append("image tower (a run of pairs of texts has none)")
            return None
        reason = self._differs(config, (*_IMAGE, *(("temporal",) if config.data.frames else ())))
        if not reason and bool(config.data.frames) != tower.takes_clips:
            reason = f"data.frames={config.data.frames}, was {self.config.data.frames}"
        if isinstance(tower, FeatureTower) and not reason and tower.dim != features:
            reason = f"features of width {features}, was {tower.dim}"
        if reason:
            self.anew.append(f"image tower ({reason})")
            return None
        self.taken.append("image tower")
        return tower

    def _projection(self, made: nn.Module, name: str, old: nn.Module) -> None:
        new, shown = getattr(made, name), name.replace("_", " ")
        ours, theirs = (
            {key: value.shape for key, value in part.state_dict().items()} for part in (new, old)
        )
        if ours != theirs:
            self.anew.append(f"{shown} (another width or kind)")
            return
        setattr(made, name, old)
        self.taken.append(shown)

    def _differs(self, config: Config, names: tuple[str, ...]) -> str:
        """Return which of these options of the model are others than in the run."""
        ours = located(to_dict(config), Path())["model"]
        theirs = located(to_dict(self.config), self.run)["model"]
        return ", ".join(
            f"model.{name}={ours[name]!r}, was {theirs[name]!r}"
            for name in names
            if ours[name] != theirs[name]
        )

    def _tell_of_pixels(self, config: Config) -> None:
        ours, theirs = (tuple(getattr(c.data, n) for n in _PIXELS) for c in (config, self.config))
        if ours != theirs and config.model.image != "features" and not config.data.texts:
            names = ", ".join(f"data.{name}" for name in _PIXELS)
            logger.warning("init: pictures are brought to %s = %s, were %s", names, ours, theirs)


def initial(config: Config) -> Initial | None:
    """Load the run that a configuration starts from; None where it names none.

    Raises:
        ValueError: no run with a finished evaluation, and no whole checkpoint.
    """
    return None if config.init is None else _loaded(config.init)


def _loaded(place: str) -> Initial:
    run = expanded(place)
    try:
        checkpoint, record = find_checkpoint(run)
        config = record.config()
        loaded = task(config.task).load(checkpoint)
    except ValueError as error:
        raise ValueError(f"init={place}: {error}") from error
    step = int(checkpoints.state_of(checkpoint)["global_step"])
    return Initial(run, step, checkpoint, config, loaded.encoder.train(), loaded.tokenizer)


def as_run(config: Config, place: str) -> Config:
    """Return a configuration with the model of a run, and the size and crop of its pictures.

    So that all of the run's weights fit. Of a run of another task it is the image tower alone.

    Args:
        config: it is not changed.
        place: of the run or one of its checkpoints.

    Raises:
        ValueError: it is none.
    """
    try:
        other = find_checkpoint(expanded(place))[1].config()
    except ValueError as error:
        raise ValueError(f"init={place}: {error}") from error
    same = other.task == config.task
    names = [f.name for f in dataclasses.fields(other.model)] if same else list(_IMAGE)
    names = [name for name in names if name not in _OF_THE_TRAINING]
    model = {name: getattr(other.model, name) for name in names}
    pixels = {name: getattr(other.data, name) for name in _PIXELS}
    if same:
        pixels["frames"] = other.data.frames
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model),
        data=dataclasses.replace(config.data, **pixels),
    )

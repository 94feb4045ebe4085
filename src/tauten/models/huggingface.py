"""Towers made of any Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from tauten.models.hf_tokenizer import HFTokenizer, fixed_length
from tauten.models.image_settings import ImageSettings, image_settings
from tauten.models.open_clip import clip_config, clip_model, has_layout, is_open_clip
from tauten.models.pooling import Pooling, pool
from tauten.models.saved import folder_of, logger, one_line
from tauten.models.sentence import DenseLayers, SentenceSettings, sentence_settings
from tauten.models.tower import Description, Tower

__all__ = ["HFImageTower", "HFTextTower", "HFTokenizer", "Pooling", "folder_of", "pool"]


class HFImageTower(Tower):
    """A Hugging Face vision model.

    A masked autoencoder sees the whole picture.

    Args:
        model: called with ``pixel_values``.
        pooling: see :func:`pool`.
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        bgr: the model takes the channels in the order blue, green, red.

    Attributes:
        trained_on: how a pretrained model's pictures were prepared.

    Raises:
        ValueError: the width of the vectors cannot be told.
    """

    mean: Tensor
    std: Tensor
    trained_on: ImageSettings | None = None

    def __init__(
        self,
        model: Any,
        pooling: Pooling = "auto",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        if hasattr(model.config, "mask_ratio"):
            model.config.mask_ratio = 0.0
        width = _width(model.config)
        self.width = self._tried_width() if width is None else width

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> HFImageTower:
        """Build the tower with random weights."""
        return cls(_image_part(_random(getattr(config, "vision_config", config))), **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> HFImageTower:
        """Load weights as float32, with the mean and std that the model was trained with.

        Args:
            name: name of the model, or its folder.
            **kwargs: passed to ``AutoModel.from_pretrained``.

        Raises:
            ValueError: no model can be read, or it cannot be an image tower.
        """
        model, missing = load_model(name, **kwargs)
        return cls.of_model(model, image_settings(name, **kwargs), missing, name)

    @classmethod
    def of_model(
        cls, model: Any, settings: ImageSettings, missing: Sequence[str], name: str | Path
    ) -> HFImageTower:
        """Make a tower of the image part of a model.

        Args:
            model: the whole model.
            settings: settings of its processor.
            missing: weights that its file did not have.
            name: for messages.

        Raises:
            ValueError: most weights are missing, or the settings of its processor are unusable.
        """
        pooling = _without_pooler(missing, name, "first", ("vision_model.pooler", "pooler"))
        part = _image_part(model)
        _check_weights(model, part, missing, name)
        if {len(settings.mean), len(settings.std)} - {1, 3} or not min(settings.std) > 0:
            raise ValueError(
                f"{name}: image_mean and image_std of its processor must be numbers for three "
                f"channels, image_std above 0, and are {settings.mean} and {settings.std}"
            )
        tower = cls(part, pooling or "auto", settings.mean, settings.std, settings.bgr)
        tower.trained_on = settings
        return tower

    @classmethod
    def from_description(cls, config: dict[str, Any], **kwargs: Any) -> HFImageTower:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        return cls.from_config(_rebuild(config), **kwargs)

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) in [0, 1] to the arguments of the model."""
        pixels = ((images.flip(1) if self.bgr else images) - self.mean) / self.std
        kind, side = self.model.config.model_type, getattr(self.model.config, "patch_size", 1)
        if kind == "vit_mae":
            places = (pixels.shape[2] // side) * (pixels.shape[3] // side)
            order = torch.arange(places, device=pixels.device)
            return {"pixel_values": pixels, "noise": order.expand(len(pixels), -1)}
        if kind == "siglip2_vision_model":
            return _patches(pixels, side)
        return {"pixel_values": pixels}

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to (N, width).

        Raises:
            ValueError: images of a size that the model does not take.
        """
        try:
            return pool(self.model(**self.inputs(images)), None, self.pooling)
        except (ValueError, TypeError, AttributeError) as error:
            height, width = images.shape[-2:]
            size = getattr(self.model.config, "image_size", None)
            raise ValueError(
                f"{type(self.model).__name__} does not take images of {width}x{height} pixels"
                f"{f' (data.image_size; it was made for {size})' if size else ''}: "
                f"{one_line(error)}"
            ) from error

    @torch.no_grad()
    def _tried_width(self) -> int:
        """Return the width of the vector of an empty image."""
        config, training = self.model.config, self.model.training
        reason = ""
        for side in dict.fromkeys((64, getattr(config, "image_size", 64))):
            try:
                width = self.eval()(torch.zeros(1, 3, side, side, device=self.mean.device)).shape[1]
                self.train(training)
                return int(width)
            except Exception as error:  # models of any kind
                reason = one_line(error)
        raise ValueError(f"cannot tell the width of a {type(config).__name__}: {reason}")

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "huggingface-image",
            "config": self.model.config.to_dict(),
            "pooling": self.pooling,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        } | ({"bgr": True} if self.bgr else {})


class HFTextTower(Tower):
    """A Hugging Face text model; the encoder of one that has a decoder too.

    SigLIP's texts are padded to its full length, and their padding counts, as in its training.

    Args:
        model: called with ``input_ids`` and ``attention_mask``.
        pooling: see :func:`pool`.
        dense: layers after pooling, as ``DenseLayers`` takes them.

    Raises:
        ValueError: the width of the vectors cannot be told.
    """

    def __init__(
        self, model: Any, pooling: Pooling = "auto", dense: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.dense = [dict(layer) for layer in dense]
        width = dense[-1]["outputs"] if dense else _width(model.config)
        if width is None:
            raise ValueError(
                f"cannot tell the width of a {type(model.config).__name__}: it has none of "
                "projection_size, hidden_size, dim, d_model"
            )
        self.width = int(width)
        if dense:
            self.head = DenseLayers(dense)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> HFTextTower:
        """Build the tower with random weights."""
        return cls(_text_part(_random(getattr(config, "text_config", config))), **kwargs)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, pooling: Pooling = "auto", **kwargs: Any
    ) -> HFTextTower:
        """Load weights as float32, with pooling and dense layers of a sentence encoder.

        Where nothing is saved about pooling, a decoder takes its last token, a model whose file
        has no weights of its pooler the mean, others as :func:`pool` does. The Normalize at the
        end of a sentence encoder is left out: it changes no direction.

        Args:
            name: name of the model, its folder, or "minilm", see :func:`folder_of`.
            pooling: takes the place of the saved one, unless it is "auto".
            **kwargs: passed to ``AutoModel.from_pretrained``.

        Raises:
            ValueError: no model can be read, or it has modules that cannot be honoured.
        """
        place = folder_of(name)
        sentence = sentence_settings(place, pooling, **kwargs)
        inside = {"subfolder": sentence.folder} if sentence.folder else {}
        model, missing = load_model(place, **inside, **kwargs)
        return cls.of_model(model, sentence, missing, name, pooling)

    @classmethod
    def of_model(
        cls,
        model: Any,
        sentence: SentenceSettings,
        missing: Sequence[str],
        name: str | Path,
        pooling: Pooling = "auto",
    ) -> HFTextTower:
        """Make a tower of the text part of a model.

        Args:
            model: the whole model.
            sentence: settings of a sentence encoder.
            missing: weights that its file did not have.
            name: for messages.
            pooling: takes the place of the saved one, unless it is "auto".

        Raises:
            ValueError: most weights are missing.
        """
        part = _text_part(model)
        _check_weights(model, part, missing, name)
        saved = sentence.pooling or (None if pooling == "auto" else pooling)
        if saved is None and _is_decoder(part.config):
            saved = "last"
        if saved is None:
            saved = _without_pooler(missing, name, "mean", ("text_model.pooler", "pooler"))
        tower = cls(part, saved or "auto", sentence.dense)
        if sentence.dense:
            layers = [layer for layer in tower.head if isinstance(layer, nn.Linear)]
            for layer, weights in zip(layers, sentence.weights, strict=True):
                try:
                    layer.load_state_dict(weights)
                except RuntimeError as error:
                    raise ValueError(f"{name}: a Dense layer: {one_line(error)}") from error
        return tower

    @classmethod
    def from_description(cls, config: dict[str, Any], **kwargs: Any) -> HFTextTower:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        return cls.from_config(_rebuild(config), **kwargs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map (N, L) ids to (N, width)."""
        length = fixed_length(self.model.config)
        if length is not None:
            rest = (0, max(length - input_ids.shape[1], 0))
            padded = F.pad(input_ids, rest, value=self.model.config.pad_token_id or 0)
            pooled = pool(self.model(input_ids=padded), None, self.pooling)
        else:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask)
            pooled = pool(output, attention_mask, self.pooling)
        out: Tensor = self.head(pooled) if self.dense else pooled
        return out

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "huggingface-text",
            "config": self.model.config.to_dict(),
            "pooling": self.pooling,
        } | ({"dense": self.dense} if self.dense else {})


def load_model(name: str | Path, **kwargs: Any) -> tuple[Any, list[str]]:
    """Read a model's weights as torch's default type, float32, unless told otherwise.

    Returns:
        The model, and the names of the weights that its file does not have.

    Raises:
        ValueError: no model can be read.
    """
    options = {
        "dtype": torch.get_default_dtype(),
        "output_loading_info": True,
        "trust_remote_code": False,  # else transformers asks at the terminal
    } | kwargs
    try:
        if is_open_clip(name):
            model, info = clip_model(name), {"missing_keys": ()}
        else:
            model, info = AutoModel.from_pretrained(name, **options)
    except Exception as error:  # damaged files, and pickles of other things
        raise ValueError(f"no model could be read from {name}: {one_line(error)}") from error
    broken = [weight for weight, values in model.named_parameters() if not values.isfinite().all()]
    if broken:
        raise ValueError(
            f"{name}: {len(broken)} of its weights hold NaN or inf, the first is {broken[0]}: "
            "bring the file back from where it came from"
        )
    return model, sorted(info["missing_keys"])


def read_config(name: str | Path) -> Any:
    """Read a model's configuration.

    Raises:
        ValueError: there is none.
    """
    if is_open_clip(name):
        return clip_config(name)
    place = folder_of(name)
    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # a configuration may hold anything
        if has_layout(place):
            raise ValueError(
                f"{name} is in the layout of open_clip: give open_clip:{name}"
            ) from error
        raise ValueError(f"no model could be read from {name}: {one_line(error)}") from error


def _random(config: Any) -> Any:
    """Make a model with random weights, also of a part that AutoModel does not know."""
    if type(config) in AutoModel._model_mapping:
        return AutoModel.from_config(config, dtype=torch.get_default_dtype())
    module = import_module(type(config).__module__.replace("configuration_", "modeling_"))
    kind = type(config).__name__.removesuffix("Config") + "Model"
    if not hasattr(module, kind):
        raise ValueError(f"no model is known for a {type(config).__name__}: choose another model")
    return getattr(module, kind)._from_config(config, dtype=torch.get_default_dtype())


def _rebuild(config: dict[str, Any]) -> Any:
    arguments = {name: value for name, value in config.items() if name != "model_type"}
    return AutoConfig.for_model(config["model_type"], **arguments)


def _image_part(model: Any) -> Any:
    return getattr(model, "vision_model", model)


def _text_part(model: Any) -> Any:
    model = getattr(model, "text_model", model)
    both = hasattr(model, "encoder") and hasattr(model, "decoder")
    return model.get_encoder() if both else model


def _is_decoder(config: Any) -> bool:
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return causal and not masked and not getattr(config, "is_encoder_decoder", False)


def _check_weights(model: Any, part: Any, missing: Sequence[str], name: str | Path) -> None:
    """Refuse a tower most of whose weights are not in its file, and name a few that are not.

    Raises:
        ValueError: the file is of another model, or has other names.
    """
    used = {id(weight) for weight in part.parameters()}
    weights = [weight for weight, tensor in model.named_parameters() if id(tensor) in used]
    lost = [weight for weight in weights if weight in set(missing) and "pooler" not in weight]
    if 2 * len(lost) > len(weights):
        raise ValueError(
            f"{name}: its file has no weights for {len(lost)} of the {len(weights)} tensors of a "
            f"{type(model).__name__}, the first is {lost[0]}: it is of another model or has other "
            "names. To train from random weights set model.random_weights"
        )
    if lost:
        logger.warning(
            "%s: its file has no weights for %d of %d tensors, they start at random; first: %s",
            name,
            len(lost),
            len(weights),
            lost[0],
        )


def _without_pooler(
    missing: Sequence[str], name: str | Path, instead: Pooling, prefixes: tuple[str, ...]
) -> Pooling | None:
    """Return the pooling in the place of a pooler whose weights were never trained."""
    if not any(weight.startswith(prefixes) for weight in missing):
        return None
    logger.warning("%s has no weights of its pooler: pooling is %r instead", name, instead)
    return instead


def _patches(pixels: Tensor, side: int) -> dict[str, Tensor]:
    """Map (N, 3, H, W) to the arguments of a model that takes patches of pictures of any shape."""
    count, _, height, width = pixels.shape
    if height % side or width % side:
        raise ValueError(f"it takes multiples of {side} pixels")
    rows, columns = height // side, width // side
    patches = pixels.unfold(2, side, side).unfold(3, side, side)  # N 3 rows columns side side
    flat = patches.permute(0, 2, 3, 4, 5, 1).reshape(count, rows * columns, -1)
    return {
        "pixel_values": flat,
        "pixel_attention_mask": torch.ones(flat.shape[:2], dtype=torch.int32, device=flat.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * count),
    }


def _width(config: Any) -> int | None:
    """Return the width of a model's vectors as its configuration says; None: it does not."""
    for name in ("projection_size", "hidden_size", "dim", "d_model"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None

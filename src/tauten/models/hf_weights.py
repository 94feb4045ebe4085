"""Reading of Hugging Face models: configuration, weights, and the part of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from tauten.models.open_clip import clip_config, clip_model, has_layout, is_open_clip
from tauten.models.pooling import Pooling
from tauten.models.saved import folder_of, logger, one_line


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


def at_random(config: Any) -> Any:
    """Make a model with random weights, also of a part that AutoModel does not know."""
    if type(config) in AutoModel._model_mapping:
        return AutoModel.from_config(config, dtype=torch.get_default_dtype())
    module = import_module(type(config).__module__.replace("configuration_", "modeling_"))
    kind = type(config).__name__.removesuffix("Config") + "Model"
    if not hasattr(module, kind):
        raise ValueError(f"no model is known for a {type(config).__name__}: choose another model")
    return getattr(module, kind)._from_config(config, dtype=torch.get_default_dtype())


def rebuilt(config: dict[str, Any]) -> Any:
    """Return the configuration of which a description has the fields."""
    arguments = {name: value for name, value in config.items() if name != "model_type"}
    return AutoConfig.for_model(config["model_type"], **arguments)


def image_part(model: Any) -> Any:
    """Return the part of a model that sees pictures."""
    return getattr(model, "vision_model", model)


def text_part(model: Any) -> Any:
    """Return the part of a model that reads texts; of two the encoder."""
    model = getattr(model, "text_model", model)
    both = hasattr(model, "encoder") and hasattr(model, "decoder")
    return model.get_encoder() if both else model


def is_decoder(config: Any) -> bool:
    """Return whether a text model's tokens see those before them alone."""
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return causal and not masked and not getattr(config, "is_encoder_decoder", False)


def check_weights(model: Any, part: Any, missing: Sequence[str], name: str | Path) -> None:
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


def without_pooler(
    missing: Sequence[str], name: str | Path, instead: Pooling, prefixes: tuple[str, ...]
) -> Pooling | None:
    """Return the pooling in the place of a pooler whose weights were never trained."""
    if not any(weight.startswith(prefixes) for weight in missing):
        return None
    logger.warning("%s has no weights of its pooler: pooling is %r instead", name, instead)
    return instead


def width_of(config: Any) -> int | None:
    """Return the width of a model's vectors as its configuration says; None: it does not."""
    for name in ("projection_size", "hidden_size", "dim", "d_model"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None

"""Options of the two towers and their common space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tauten.models.augmentation_options import AugmentationConfig, ViewConfig
from tauten.spec import SELDOM, Range, When

#: where options have meaning
_PAIRS, _VIEWS = When("task", ("pairs",)), When("task", ("views",))
_PICTURES, _CLIPS = When("data.texts", (False,)), When("data.frames")
_FEATURES = When("model.image", ("features",))
_CONVOLUTIONAL = When("model.image", ("convolutional",))
_MAPS = When("model.image", ("convolutional", "efficientnet-lite0"))
_OWN_TEXT = When("model.text", ("words", "ngrams"))
_OTHER_TEXT = When("model.text", but=("words", "ngrams"))
_LORA = When("model.lora")


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
    random_weights: Annotated[bool, SELDOM] = False
    """take only the configuration of Hugging Face models, not their weights"""
    dim: Annotated[int, Range(1, 65536)] = 256
    """width of the common space; where both towers are one pretrained model, such as CLIP, it is
    that of the model's own space, whose projections are taken"""
    channels: Annotated[tuple[int, ...], Range(1, 65536), _CONVOLUTIONAL, _PICTURES] = (48, 96, 192)
    """convolutional: output channels of each layer"""
    grid: Annotated[int, Range(1, 256), _MAPS, _PICTURES] = 4
    """convolutional, efficientnet-lite0: places per side that the last map is averaged to; 1: the
    mean over all places"""
    feature_hidden: Annotated[int, Range(0, 65536), _FEATURES] = 0
    """features: width of a hidden layer before the projection; 0: none"""
    text_width: Annotated[int, Range(1, 65536), _OWN_TEXT] = 256
    """words, ngrams: width of the token embeddings"""
    max_tokens: Annotated[int, Range(1, 65536), _PAIRS] = 64
    """tokens kept per caption"""
    temporal: Annotated[Literal["mean", "attention"], _CLIPS] = "mean"
    """clips: how the vectors of frames become one; attention: with learned weights"""
    freeze: Annotated[Literal["none", "image", "text", "both"], _PAIRS] = "none"
    """pretrained towers that stay as they are, also in their batch normalisation and dropout;
    projections are trained"""
    lora: Annotated[int, Range(0, 4096)] = 0
    """rank of adapters (LoRA) that are trained in the place of the weights of Hugging Face towers;
    0 for none. They are in checkpoints, and merged into the weights when a run is loaded"""
    lora_alpha: Annotated[float, Range(0.0, 1e4, above=True), _LORA] = 16.0
    """what adapters are multiplied by, divided by their rank"""
    lora_towers: Annotated[Literal["image", "text", "both"], _LORA, _PAIRS] = "both"
    """towers with adapters; others are trained as they are, or frozen"""
    checkpointing: Annotated[bool, SELDOM] = False
    """Hugging Face towers compute their activations again for the gradient: less memory, about a
    third more time, the same result"""
    augment: Annotated[bool, _PICTURES] = True
    """change training images at random"""
    augmentation: Annotated[AugmentationConfig, _PAIRS, _PICTURES, SELDOM] = field(
        default_factory=AugmentationConfig
    )
    projector: Annotated[Literal["mlp", "linear"], _VIEWS] = "mlp"
    """views: what is between the features that are evaluated and the loss"""
    views: Annotated[ViewConfig, _VIEWS] = field(default_factory=ViewConfig)

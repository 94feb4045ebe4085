"""Memory and speed of a training: device, frozen towers, recomputed activations, compilation."""

from __future__ import annotations

import logging

import torch
from torch import nn
from transformers import PreTrainedModel

from tauten.models import DualEncoder, TextEncoder, ViewEncoder
from tauten.training.options.compute_rules import adapted
from tauten.training.options.config import ModelConfig

logger = logging.getLogger("tauten.training")

#: in encoder.json: what the adapters of towers are multiplied by
LORA_SCALE = "lora_scale"


def check_device(device: str, precision: str) -> None:
    """Refuse a device that there is not, and float16 without a GPU.

    Raises:
        ValueError: ``device=cuda`` or ``optim.precision=fp16`` without a GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch sees no GPU here; use device=cpu, or auto")
    if precision == "fp16" and device_of(device).type == "cpu":
        raise ValueError(
            "optim.precision=fp16 needs a GPU: on a CPU accelerate would compute in float32. There "
            "give optim.precision=bf16, which has the range of float32 and needs no scaling"
        )


def device_of(device: str) -> torch.device:
    """Return the device that this process trains on."""
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def fitted(
    encoder: DualEncoder | ViewEncoder, config: ModelConfig, task: str, seed: int = 0
) -> None:
    """Freeze towers, give them adapters, let others compute their activations twice, as configured.

    Args:
        encoder: whose towers they are.
        config: of the model.
        task: of the training, by its name.
        seed: of the adapters' weights.

    Raises:
        ValueError: a tower that can have no adapters, or none that can compute its activations
            twice.
    """
    freeze, sides = config.freeze, adapted(config, task)
    if isinstance(encoder, DualEncoder) and freeze != "none":
        encoder.freeze("image", "text") if freeze == "both" else encoder.freeze(freeze)
    for name, tower in towers(encoder):
        if name in sides:
            _adapt(tower, name, config, seed)
    if not config.checkpointing:
        return
    able = []
    for name, tower in towers(encoder):
        model = next((m for m in tower.modules() if isinstance(m, PreTrainedModel)), None)
        if model is not None and model.supports_gradient_checkpointing:
            older = model.gradient_checkpointing_enable  # until transformers 5.2x
            getattr(model, "activation_checkpointing_enable", older)({"use_reentrant": False})
            able.append(name)
    if not able:
        kinds = " and ".join(type(tower).__name__ for _, tower in towers(encoder))
        raise ValueError(
            f"model.checkpointing is of Hugging Face towers, and these are {kinds}: leave it out; "
            "optim.chunk saves the memory of large batches"
        )
    if len(able) < len(towers(encoder)):
        logger.info("model.checkpointing: of the %s tower alone", able[0])


def _adapt(tower: nn.Module, name: str, config: ModelConfig, seed: int) -> None:
    """Give a tower, or the one inside a tower of clips, adapters."""
    from tauten.models.adapters import adapt

    rank, alpha = config.lora, config.lora_alpha
    inside = getattr(tower, "image_tower", tower)
    if not isinstance(getattr(inside, "model", None), PreTrainedModel):
        raise ValueError(
            f"model.lora={rank} is of Hugging Face towers, and the {name} tower is a "
            f"{type(inside).__name__}: leave it out, or give model.lora_towers of the other side"
        )
    layers = adapt(inside, rank, alpha, seed)
    trained = sum(p.numel() for p in inside.parameters() if p.requires_grad)
    logger.info(
        "model.lora: adapters of rank %d in %d layers of the %s tower, %s of its %s numbers",
        *(rank, layers, name),
        *(f"{trained:,}", f"{sum(p.numel() for p in inside.parameters()):,}"),
    )


def adapters(model: ModelConfig) -> dict[str, float]:
    """Return what a checkpoint says of the adapters of its towers; nothing without any."""
    return {LORA_SCALE: model.lora_alpha / model.lora} if model.lora else {}


def compiled(encoder: DualEncoder | ViewEncoder) -> None:
    """Compile the towers, where they are; their parameters keep their names."""
    for _, tower in towers(encoder):
        tower.compile()


def towers(encoder: DualEncoder | ViewEncoder) -> list[tuple[str, nn.Module]]:
    """Return the towers of an encoder by name."""
    if isinstance(encoder, TextEncoder):
        return [("text", encoder.text_tower)]
    if isinstance(encoder, DualEncoder):
        others = getattr(encoder, "other_tower", ())
        named = zip(getattr(encoder, "names", ()), others, strict=True)
        return [("image", encoder.image_tower), ("text", encoder.text_tower), *named]
    return [("image", encoder.tower)]

"""Adapters of low rank (LoRA, Hu et al., ICLR 2022) in the linear layers of Hugging Face towers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_DOWN, _UP, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def adapt(tower: nn.Module, rank: int, alpha: float, seed: int) -> int:
    """Freeze a tower and give each linear layer W of its model an adapter: W + alpha / rank · B A.

    B begins at 0, so that the tower first embeds as it did. Layers in ``nn.MultiheadAttention``,
    which reads their weights itself, have none. The layers are those of peft.

    Args:
        tower: with a Hugging Face ``model``; it is changed where it is.
        rank: rows of A, columns of B.
        alpha: see above.
        seed: seed of A.

    Returns:
        The number of layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    inside = {
        id(part)
        for module in tower.modules()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
    }
    model = tower.model
    assert isinstance(model, nn.Module)
    names = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and id(layer) not in inside
    ]
    tower.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{name}".endswith((_DOWN, _UP)))
    return len(names)


def merged(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return a state dict with adapters added to the weights that they adapt, without peft.

    Args:
        state: state of a tower or an encoder; without adapters it stays as it is.
        scale: alpha / rank.
    """
    layers = {name.removesuffix(_DOWN) for name in state if name.endswith(_DOWN)}
    plain = {}
    for name, value in state.items():
        layer, base, rest = name.partition(_BASE)
        if not base or layer not in layers:
            if not name.endswith((_DOWN, _UP)):
                plain[name] = value
            continue
        if rest == "weight":
            up, down = state[layer + _UP], state[layer + _DOWN]
            value = (value.double() + scale * up.double() @ down.double()).to(value.dtype)
        plain[f"{layer}.{rest}"] = value
    return plain

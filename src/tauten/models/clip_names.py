"""Names of CLIP's weights: those of OpenAI's code and open_clip, and those of transformers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: in a block: names of OpenAI's code to those of transformers
BLOCK = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".attn.in_proj_": ".self_attn.qkv.",
    ".attn.Wqkv.": ".self_attn.qkv.",
}
TEXT = {
    "token_embedding.": "embeddings.token_embedding.",
    "positional_embedding": "embeddings.position_embedding.weight",
    "transformer.resblocks.": "encoder.layers.",
    "ln_final.": "final_layer_norm.",
} | BLOCK
VISION = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.": "embeddings.patch_embedding.",
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
    "transformer.resblocks.": "encoder.layers.",
} | BLOCK


def named(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the weights of a tower under other names, with queries, keys and values apart."""
    renamed = {}
    for name, value in state.items():
        new = name
        for old, replacement in table.items():
            new = new.replace(old, replacement)
        renamed.update(apart(new, value))
    return renamed


def apart(name: str, value: Tensor) -> dict[str, Tensor]:
    """Split what projects to queries, keys and values at once; other weights stay as they are."""
    if ".qkv." not in name:
        return {name: value}
    pieces = zip("qkv", value.chunk(3), strict=True)
    return {name.replace(".qkv.", f".{part}_proj."): piece for part, piece in pieces}


def named_back(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the weights that :func:`named` returned under their first names."""
    joined, renamed = dict(state), {}
    for name in state:
        if ".q_proj." in name:
            parts = [joined.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
            joined[name.replace(".q_proj.", ".qkv.")] = torch.cat(parts)
    for name, value in joined.items():
        new = name
        for old, replacement in table.items():
            if old != ".attn.Wqkv.":
                new = new.replace(replacement, old)
        renamed[new] = value
    return renamed

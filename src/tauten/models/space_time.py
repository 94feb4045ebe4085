"""A CLIP vision transformer over all patches of a clip, in two published forms of attention.

Shapes: N clips, T frames, P patches of a frame, D width; L = 1 + T·P tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer

from tauten.models.tower import Description, Tower

Attention = Literal["joint", "divided"]

# CLIP's, but for the first channel's mean, with which LaViLa and AVION were trained
MEAN = (108.3272985 / 255, 116.7460125 / 255, 104.09373615 / 255)
STD = (68.5005327 / 255, 66.6321579 / 255, 70.32316305 / 255)

_EPSILON = 1e-6


class SpaceTimeViT(Tower):
    """Patches of all frames and one class token through transformer layers.

    A patch has the embedding of its place in the frame plus that of its frame. ``"joint"``: every
    token attends to every other (AVION: Zhao & Krähenbühl, 2023). ``"divided"``: each layer attends
    first over time, to the patches in the same place, then over space, to those of the same frame,
    both with the class token, which attends to all; the residual of the second is the layer's input
    (TimeSformer, Bertasius et al., ICML 2021, in the form of Frozen in Time, Bain et al., ICCV
    2021, used by LaViLa). Layers are those of the CLIP of Hugging Face.

    Args:
        image_size: height and width of a frame.
        patch_size: side of a patch; divides image_size.
        width: D.
        depth: number of layers.
        heads: number of heads of each attention; divides width.
        frames: T.
        attention: "joint" or "divided".
        activation: "gelu" (AVION) or "quick_gelu" (LaViLa, CLIP).
        mean: of the channels in [0, 1], subtracted.
        std: of the channels, divided by.

    Raises:
        ValueError: sizes that do not divide, or clips of another shape (in ``forward``).
    """

    takes_clips = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        frames: int = 4,
        attention: Attention = "joint",
        activation: str = "gelu",
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        super().__init__()
        if image_size % patch_size or width % heads or frames < 1:
            raise ValueError(
                "patch_size must divide image_size, heads width, and frames be at least 1, got "
                f"{patch_size} and {image_size}, {heads} and {width}, {frames}"
            )
        if attention not in ("joint", "divided"):
            raise ValueError(f'attention is "joint" or "divided", got {attention!r}')
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            image_size=image_size,
            patch_size=patch_size,
            hidden_act=activation,
            layer_norm_eps=_EPSILON,
            attn_implementation="sdpa",
        )
        self.width, self.frames, self.attention = width, frames, attention
        self.config = config
        places = (image_size // patch_size) ** 2
        self.patches = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(places + 1, width) * 0.02)
        self.times = nn.Parameter(torch.zeros(frames, width))
        self.norm_before = nn.LayerNorm(width, eps=1e-5 if attention == "divided" else _EPSILON)
        layer = DividedLayer if attention == "divided" else CLIPEncoderLayer
        self.layers = nn.ModuleList([layer(config) for _ in range(depth)])
        self.norm_after = nn.LayerNorm(width, eps=_EPSILON)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, T, 3, H, W) in [0, 1] to (N, width)."""
        size = self.config.image_size
        if clips.shape[1:] != (self.frames, 3, size, size):
            raise ValueError(
                f"the tower takes clips (N, {self.frames}, 3, {size}, {size}), got "
                f"{tuple(clips.shape)}: set data.frames and data.image_size"
            )
        pixels = (clips.flatten(0, 1) - self.mean) / self.std
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        patches = patches.unflatten(0, clips.shape[:2]) + self.positions[1:] + self.times[:, None]
        first = (self.class_token + self.positions[0]).expand(len(clips), 1, -1)
        x: Tensor = self.norm_before(torch.cat([first, patches.flatten(1, 2)], dim=1))
        for layer in self.layers:
            x = layer(x, self.frames) if self.attention == "divided" else layer(x, None)
        out: Tensor = self.norm_after(x[:, 0])
        return out

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        config = self.config
        return {
            "kind": "space-time",
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "width": self.width,
            "depth": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "frames": self.frames,
            "attention": self.attention,
            "activation": config.hidden_act,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


class DividedLayer(CLIPEncoderLayer):  # type: ignore[misc]
    """A layer of CLIP with an attention over time before that over space.

    With new weights the one over time gives 0, so that each frame is treated as an image.
    """

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.temporal_attn = CLIPAttention(config)
        self.temporal_norm = nn.LayerNorm(self.embed_dim, eps=config.layer_norm_eps)
        for name in ("v_proj", "out_proj"):
            nn.init.zeros_(getattr(self.temporal_attn, name).bias)
        nn.init.zeros_(self.temporal_attn.v_proj.weight)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Map (N, L, D) to the same shape."""
        over_time = x + _divided(self.temporal_attn, self.temporal_norm(x), frames, "time")
        x = x + _divided(self.self_attn, self.layer_norm1(over_time), frames, "space")
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


def _divided(attention: Any, x: Tensor, frames: int, along: Literal["time", "space"]) -> Tensor:
    """Return the attention of each patch to the class token and to the patches of its group."""
    order = (0, 2, 1, 3, 4) if along == "space" else (0, 3, 1, 2, 4)
    back = (0, 2, 1, 3, 4) if along == "space" else (0, 2, 3, 1, 4)

    def grouped(z: Tensor) -> Tensor:
        """Map (N, h, L, d) to (N, groups, h, members, d)."""
        parts: Tensor = z[:, :, 1:].unflatten(2, (frames, -1))
        return parts.permute(order)

    def with_class(z: Tensor) -> Tensor:
        members = grouped(z)
        first = z[:, None, :, :1].expand(-1, members.shape[1], -1, -1, -1)
        return torch.cat([first, members], dim=3)

    q, k, v = (
        project(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    first = F.scaled_dot_product_attention(q[:, :, :1], k, v)
    rest = F.scaled_dot_product_attention(grouped(q), with_class(k), with_class(v))
    out = torch.cat([first, rest.permute(back).flatten(2, 3)], dim=2)
    projected: Tensor = attention.out_proj(out.transpose(1, 2).flatten(2))
    return projected

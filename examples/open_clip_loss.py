"""open_clip's training step with temperatures of your own.

    python examples/open_clip_loss.py

``ControlledClipLoss`` takes the place of ``open_clip.ClipLoss``. The step below is that of
``open_clip_train`` without its options; the lines that end in ``# tauten`` are changed or new.
The model keeps its ``logit_scale``, which no longer does anything: the "Logit Scale" that
``open_clip_train`` logs says nothing about τ.
Without open_clip a stand-in with the same outputs is trained instead.
Needs ``pip install "tauten[train]"`` for the data.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tauten as tt

WORDS, END, LENGTH = 258, 257, 24


class ControlledClipLoss(nn.Module):
    """The interface of ``open_clip.ClipLoss``, with τ from a control instead of ``logit_scale``.

    Parameters of the loss itself, such as those of ``tt.Learnable``, belong into the optimiser:
    ``open_clip_train.main`` builds it before its loss, so make the loss first.

    Args:
        loss_fn: any loss of tauten.
    """

    def __init__(self, loss_fn: tt.ContrastiveLoss) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor | None = None,
        logit_bias: Tensor | None = None,
        index: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        total = self.loss_fn(image_features, text_features, index)
        for unused in (logit_scale, logit_bias):
            if unused is not None:  # a gradient of 0, which DistributedDataParallel waits for
                total = total + 0.0 * unused.sum()
        return {"contrastive_loss": total} if output_dict else total


Batch = tuple[Tensor, Tensor, Tensor]


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: ControlledClipLoss,
    optimizer: torch.optim.Optimizer,
) -> float:
    model.train()
    value = float("nan")
    for images, texts, index in batches:  # tauten: the data set gives each pair's position
        optimizer.zero_grad()
        model_out = model(images, texts)
        losses = loss(**model_out, index=index, output_dict=True)  # tauten
        total_loss = sum(losses.values())
        total_loss.backward()
        optimizer.step()
        loss.loss_fn.step()  # tauten
        value = total_loss.item()
    return value


class StandIn(nn.Module):
    """What ``open_clip.CLIP(output_dict=True)`` returns, from two shallow towers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, width))
        self.text = nn.EmbeddingBag(WORDS, width, padding_idx=0)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        return {
            "image_features": F.normalize(self.image(image), dim=-1),
            "text_features": F.normalize(self.text(text), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


def build_model() -> nn.Module:
    """A tiny CLIP with random weights, from open_clip where it is installed."""
    try:
        from open_clip import CLIP
    except ImportError:
        return StandIn()
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32}
    text = {"context_length": LENGTH, "vocab_size": WORDS, "width": 64, "heads": 2, "layers": 2}
    return CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text, output_dict=True)


def byte_ids(captions: list[str]) -> Tensor:
    """(N, LENGTH) bytes + 1, then the end token, the highest id, where open_clip's CLIP pools."""
    rows = [[byte + 1 for byte in caption.encode()] for caption in captions]
    padding = [0] * LENGTH
    return torch.tensor([[*row[: LENGTH - 1], END, *padding][:LENGTH] for row in rows])


def main(epochs: int = 4, samples: int = 1906, seed: int = 0) -> float:
    from tauten.data import class_counts, emoji_lt, images

    torch.manual_seed(seed)
    train = emoji_lt("train")
    noto = [i for i, style in enumerate(train["style"]) if style == "noto"]
    train = train.select(noto[:samples])
    pixels, texts = images(train) / 127.5 - 1, byte_ids(list(train["caption"]))
    model = build_model()

    counts = class_counts(train["label"])  # tauten
    period = epochs * (len(train) // 128)
    tau = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=period)  # tauten
    loss = ControlledClipLoss(tt.InfoNCE(tau))  # tauten: was open_clip.ClipLoss()

    trained = [*model.parameters(), *loss.parameters()]  # tauten: those of the loss too
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    value = float("nan")
    for epoch in range(epochs):
        order = torch.randperm(len(train)).split(128)[: len(train) // 128]
        batches = [(pixels[index], texts[index], index) for index in order]
        value = train_one_epoch(model, batches, loss, optimizer)
        print(f"epoch {epoch + 1}: loss {value:.3f} after {loss.loss_fn.steps} steps")
    return value


if __name__ == "__main__":
    main()

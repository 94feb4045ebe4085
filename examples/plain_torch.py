"""A training loop in plain torch on the embedded emoji_lt, with a tauten loss in it.

    python examples/plain_torch.py --epochs 3

The lines that end in ``# tauten`` are those that a loop with one fixed temperature does not have.
Needs ``pip install "tauten[train]"`` for the data.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import tauten as tt
from tauten.data import class_counts, count_groups, emoji_lt, images


class Towers(nn.Module):
    """A small convolutional image tower and a bag of words, both to 128 dimensions."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for inputs, outputs, stride in ((12, 32, 1), (32, 64, 2), (64, 128, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.image = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 128))
        self.text = nn.EmbeddingBag(vocabulary_size, 128, padding_idx=0)

    def forward(self, pixels: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return self.image(pixels / 127.5 - 1), self.text(words)


def word_ids(captions: list[str], vocabulary: dict[str, int], length: int = 16) -> Tensor:
    """(N, length) ids, 0 where there is no word, or one that training did not have."""
    rows = [[vocabulary.get(word, 0) for word in caption.split()][:length] for caption in captions]
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def main(epochs: int = 3, samples: int = 3812, seed: int = 0) -> dict[str, float]:
    torch.manual_seed(seed)
    train, test = emoji_lt("train").select(range(samples)), emoji_lt("test")
    pixels, captions = images(train), list(train["caption"])
    vocabulary = {w: i for i, w in enumerate(sorted({w for c in captions for w in c.split()}), 1)}
    words = word_ids(captions, vocabulary)
    towers = Towers(len(vocabulary) + 1)
    batch_size = 128
    per_epoch = len(train) // batch_size

    counts = class_counts(train["label"])  # tauten
    tau = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=epochs * per_epoch / 2)  # tauten
    loss_fn = tt.InfoNCE(tau)  # tauten
    first = {caption: i for i, caption in reversed(list(enumerate(captions)))}  # tauten
    caption_ids = torch.tensor([first[caption] for caption in captions])  # tauten

    optimizer = torch.optim.AdamW(towers.parameters(), lr=3e-3)
    mean_loss = 0.0
    for epoch in range(epochs):
        mean_loss = 0.0
        for index in torch.randperm(len(train)).split(batch_size)[:per_epoch]:
            x, y = towers(pixels[index], words[index])
            loss = loss_fn(x, y, index, same=caption_ids[index])  # tauten
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_fn.step()  # tauten
            mean_loss += loss.item() / per_epoch
        now = tau.at(torch.arange(len(train)))
        low, high = float(now.min()), float(now.max())
        print(f"epoch {epoch + 1}: loss {mean_loss:.3f}, τ in {low:.3f} .. {high:.3f}")

    towers.eval()
    with torch.no_grad():
        x, y = towers(images(test), word_ids(list(test["caption"]), vocabulary))
    groups = count_groups(class_counts(test["label"], reference=train["label"]))
    found = tt.evaluation.retrieval(x, y, torch.arange(len(test)), groups=groups, bootstrap=0)
    for name in ("x2y/hit@10", *(f"x2y/hit@10/{group}" for group in sorted(set(groups)))):
        print(f"{name}: {found[name]:.3f}")
    return {"loss": mean_loss, "steps": loss_fn.steps, **found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="tauten's loss in a loop in plain torch")
    parser.add_argument("--epochs", type=int, default=3)
    main(parser.parse_args().epochs)

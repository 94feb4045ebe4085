"""A LightningModule whose loss has a temperature per sample.

    python examples/lightning_module.py

The lines that end in ``# tauten`` are those that a module with one fixed temperature does not
have. As a submodule the loss is in Lightning's checkpoints, so that schedules resume.
Without lightning a stand-in with the same hooks runs the module.
Needs ``pip install "tauten[train]"`` for the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

import tauten as tt

try:
    from lightning.pytorch import LightningModule, Trainer
except ImportError:

    class LightningModule(nn.Module):
        """The hooks of lightning's module that are used below."""

        def optimizer_step(
            self,
            epoch: int,
            batch_idx: int,
            optimizer: torch.optim.Optimizer,
            optimizer_closure: Callable[[], Tensor],
        ) -> None:
            optimizer.step(optimizer_closure)

        def log(self, name: str, value: Any, **options: Any) -> None:
            print(f"{name} {float(value.detach()):.3f}")

    class Trainer:
        """Calls the hooks in lightning's order."""

        def __init__(self, max_epochs: int, **options: Any) -> None:
            self.max_epochs = max_epochs

        def fit(self, module: LightningModule, loader: Iterable[Any]) -> None:
            optimizer = module.configure_optimizers()
            for epoch in range(self.max_epochs):
                for i, batch in enumerate(loader):

                    def closure(batch: Any = batch, i: int = i) -> Tensor:
                        optimizer.zero_grad()
                        loss: Tensor = module.training_step(batch, i)
                        loss.backward()
                        return loss

                    module.optimizer_step(epoch, i, optimizer, closure)


class Pairs(LightningModule):
    """Two linear towers and the loss between them.

    Args:
        counts: (num_samples,) size of each sample's class.
        period: optimiser steps of one oscillation of τ.
    """

    def __init__(self, counts: Tensor, period: float) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64))
        self.text = nn.EmbeddingBag(257, 64, padding_idx=0)
        tau = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=period)  # tauten
        self.loss_fn = tt.InfoNCE(tau)  # tauten

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, texts, index = batch  # tauten: the data set gives each pair's position
        loss: Tensor = self.loss_fn(self.image(pixels), self.text(texts), index)  # tauten
        self.log("loss", loss)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # tauten
        super().optimizer_step(*args, **kwargs)  # tauten
        self.loss_fn.step()  # tauten: once per optimiser step, also with accumulated gradients

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(epochs: int = 1, samples: int = 1024, seed: int = 0) -> Pairs:
    from tauten.data import class_counts, emoji_lt, images

    torch.manual_seed(seed)
    train = emoji_lt("train")
    noto = [i for i, style in enumerate(train["style"]) if style == "noto"]
    train = train.select(noto[:samples])
    rows = [[byte + 1 for byte in caption.encode()][:24] for caption in train["caption"]]
    texts = torch.tensor([row + [0] * (24 - len(row)) for row in rows])
    pairs = torch.utils.data.TensorDataset(
        images(train) / 127.5 - 1,
        texts,
        torch.arange(len(train)),  # tauten: each pair's position
    )
    loader = torch.utils.data.DataLoader(pairs, batch_size=128, shuffle=True, drop_last=True)
    module = Pairs(class_counts(train["label"]), period=epochs * len(loader))
    Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False).fit(module, loader)
    return module


if __name__ == "__main__":
    print(f"{main().loss_fn.steps} optimiser steps")

"""Lightning's trainer on two processes, started by torchrun."""

import os
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from shared import BATCH, LABELS, SAMPLES, build
from torch import nn

from tauten.integrations.lightning import LossCallback


class Pairs(pl.LightningModule):
    def __init__(self, loss_fn):
        super().__init__()
        self.tower = nn.Linear(16, 8)
        if os.environ.get("APART"):
            self.__dict__["loss_fn"] = loss_fn  # no part of the module
        else:
            self.loss_fn = loss_fn

    def training_step(self, batch, batch_idx):
        x, y, index = batch
        return self.loss_fn(self.tower(x), self.tower(y), index)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main():
    out = Path(os.environ["OUT"])
    torch.manual_seed(0)
    data = torch.randn(SAMPLES, 16), torch.randn(SAMPLES, 16), torch.arange(SAMPLES)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*data), batch_size=BATCH // 2, shuffle=True
    )
    loss_fn = build()
    apart = loss_fn if os.environ.get("APART") else None
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=3,
        log_every_n_steps=2,
        logger=TensorBoardLogger(out, name="logs", version="0"),
        callbacks=[
            LossCallback(apart, labels=LABELS),
            ModelCheckpoint(out / "kept", save_last=True),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = out / "kept" / "last.ckpt"
    trainer.fit(Pairs(loss_fn), loader, ckpt_path=str(last) if last.exists() else None)


main()

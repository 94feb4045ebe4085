"""A loop of one's own on accelerate; the state is saved after each epoch."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from shared import BATCH, LABELS, SAMPLES, build
from torch import nn

from tauten.integrations.accelerate import RegisteredLoss


def main():
    out = Path(os.environ["OUT"])
    torch.manual_seed(0)
    accelerator = Accelerator(
        gradient_accumulation_steps=2, log_with="tensorboard", project_dir=out
    )
    data = torch.randn(SAMPLES, 16), torch.randn(SAMPLES, 16)
    model, loss_fn = nn.Linear(16, 8), build()
    registered = RegisteredLoss(accelerator, loss_fn, labels=LABELS)
    accelerator.init_trackers("run", config=registered.hyper_parameters())
    optimizer = torch.optim.AdamW([*model.parameters(), *loss_fn.parameters()], lr=1e-3)
    model, optimizer = accelerator.prepare(model, optimizer)
    first, state = 0, out / "state"
    if (out / "epoch").exists():
        accelerator.load_state(state)
        first = int((out / "epoch").read_text())
    for epoch in range(first, 3):
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
        for index in order.split(BATCH):
            with accelerator.accumulate(model):
                x, y = (model(side[index]) for side in data)
                accelerator.backward(loss_fn(x, y, index))
                optimizer.step()
                if registered.step():
                    accelerator.log(registered.temperatures(), step=loss_fn.steps)
                optimizer.zero_grad()
        accelerator.save_state(state)
        (out / "epoch").write_text(str(epoch + 1))
    accelerator.end_training()


main()

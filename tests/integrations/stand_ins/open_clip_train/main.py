"""The training: options, optimiser, checkpoint, data, loss, epochs."""

import torch
from torch import optim

from open_clip_train import data as data_module

wandb = None
create_loss = None


def parse_args(args):
    return args[0]


def is_master(args):
    return True


def train_one_epoch(
    model, data, loss, epoch, optimizer, scaler, scheduler, dist, args, tb_writer=None
):
    cached = []
    for images, texts in data["train"].dataloader:
        cached.append((images, texts))
        if len(cached) < args.accum_freq:
            continue
        optimizer.zero_grad()
        for j in range(args.accum_freq):
            sides = [
                torch.cat([model(s) if i == j else model(s).detach() for i, s in enumerate(side)])
                for side in zip(*cached, strict=True)
            ]
            sum(loss(*sides, model.logit_scale.exp(), output_dict=True).values()).backward()
        optimizer.step()
        cached = []


def main(args):
    args = parse_args(args)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3, bias=False)
    model.logit_scale = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = optim.AdamW(
        [{"params": [model.logit_scale], "weight_decay": 0.0}, {"params": [model.weight]}], lr=0.1
    )
    first = 0
    if args.resume:
        checkpoint = torch.load(args.resume)
        first = checkpoint["epoch"]
        model.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    data = data_module.get_data(args)
    loss = create_loss(args)
    for epoch in range(first, args.epochs):
        train_one_epoch(
            model, data, loss, epoch, optimizer, None, None, None, args, tb_writer=args.writer
        )
        checkpoint = {"epoch": epoch + 1, "state_dict": model.state_dict()}
        torch.save({**checkpoint, "optimizer": optimizer.state_dict()}, args.folder / f"{epoch}.pt")
    return model

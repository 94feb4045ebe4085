"""Training from WebDataset shards that stay on disk, killed and resumed in the middle of an epoch.

    python examples/streaming.py --folder runs/streaming --stop-after 40
    python examples/streaming.py --folder runs/streaming

The first command stops without a word of farewell after 40 steps; the second goes on with the last
checkpoint and ends with the weights of a run that was never stopped. ``--shards`` names your own
tars or parquet files; without it some are written from the embedded emoji_lt. Needs
``pip install "tauten[train]"``.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tauten as tt
from tauten.data import PairStream, ShardPairs, class_counts, emoji_lt, index_shards

WORDS = 4096


class Towers(nn.Module):
    """A small convolutional image tower and a bag of hashed words, both to 64 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for inputs, outputs in ((12, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, padding=1), nn.ReLU()]
        self.image = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 64))
        self.text = nn.EmbeddingBag(WORDS, 64)

    def forward(self, pixels: Tensor, captions: list[str]) -> tuple[Tensor, Tensor]:
        words = [[crc(word) % WORDS for word in text.split()] for text in captions]
        starts = torch.tensor([0, *map(len, words)])[:-1].cumsum(0)
        flat = torch.tensor([word for text in words for word in text])
        return self.image(pixels / 127.5 - 1), self.text(flat, starts)


def crc(text: str) -> int:
    return zlib.crc32(text.encode())


def write_shards(folder: Path, samples: int, per_shard: int = 1000) -> str:
    """Write emoji_lt as WebDataset tars, once."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = emoji_lt("train").select(range(samples))
    for first in range(0, samples, per_shard):
        path = folder / f"emoji-{first:05}.tar"
        if path.exists():
            continue
        with tarfile.open(path.with_suffix(".part"), "w") as tar:
            for row in rows.select(range(first, min(first + per_shard, samples))):
                picture = io.BytesIO()
                row["image"].save(picture, "PNG")
                description = {"caption": row["caption"], "label": row["label"]}
                members = {"png": picture.getvalue(), "json": json.dumps(description).encode()}
                for extension, content in members.items():
                    info = tarfile.TarInfo(f"{row['id']}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        path.with_suffix(".part").replace(path)
    return str(folder / "emoji-*.tar")


def main(
    folder: str | Path = "runs/streaming",
    shards: str | None = None,
    label: str = "label",
    epochs: int = 2,
    samples: int = 3812,
    batch_size: int = 128,
    workers: int = 0,
    save_every: int = 10,
    stop_after: int | None = None,
) -> dict[str, Any]:
    torch.manual_seed(0)
    folder = Path(folder)
    shards = shards or write_shards(folder / "shards", samples)
    pairs = ShardPairs(index_shards(shards, folder / "catalogue.jsonl"), image_size=32)
    stream = PairStream(pairs, batch_size=batch_size, workers=workers, buffer=1024, run=64)

    counts = class_counts(pairs.column(label, missing="unknown"))
    period = epochs * len(stream) / 2
    loss_fn = tt.InfoNCE(tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=period))
    towers = Towers()
    optimizer = torch.optim.AdamW(towers.parameters(), lr=3e-3)
    parts = {"towers": towers, "optimizer": optimizer, "loss": loss_fn, "stream": stream}

    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        for name, state in torch.load(checkpoint).items():
            parts[name].load_state_dict(state)
        print(f"going on in epoch {stream.epoch} after {stream.position} samples")

    seen: list[int] = []
    for epoch in range(stream.epoch, epochs):
        for batch in stream:
            x, y = towers(batch["image"], batch["caption"])
            captions = torch.tensor([crc(text) for text in batch["caption"]])
            loss = loss_fn(x, y, batch["index"], same=captions)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_fn.step()
            seen += batch["index"].tolist()
            if loss_fn.steps == stop_after:
                return {"steps": loss_fn.steps, "seen": seen}
            if loss_fn.steps % save_every == 0:
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save(states, checkpoint.with_suffix(".part"))
                checkpoint.with_suffix(".part").replace(checkpoint)
                print(f"step {loss_fn.steps}: loss {loss.item():.3f}, saved")
        print(f"epoch {epoch} done, {stream.skipped.count} samples skipped")
    return {"steps": loss_fn.steps, "seen": seen, "weights": towers.state_dict()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="training from shards, resumed mid-epoch")
    parser.add_argument("--folder", default="runs/streaming")
    parser.add_argument("--shards", default=None)
    parser.add_argument("--label", default="label")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--stop-after", type=int, default=None)
    main(**vars(parser.parse_args()))

"""Chunked encoding is the plain step: values, gradients, dropout replayed."""

import pytest
import torch
from torch import nn

import tauten as tt
from tauten.training.tasks.chunks import check_rowwise, encode_in_chunks
from tauten.training.tasks.module import ContrastiveModule

ROWS, SAMPLES = 10, 30


class Towers(nn.Module):
    """Two small towers; remembers how many rows it was given at a time."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.left = nn.Sequential(
            nn.Linear(6, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4)
        )
        self.right = nn.Sequential(
            nn.Linear(5, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4)
        )
        self.seen = []

    def forward(self, images, texts):
        self.seen.append(len(images))
        return self.left(images), self.right(texts["ids"])


LOSSES = {
    "learnable": lambda: tt.InfoNCE(tt.Learnable(0.2, 0.01, 1.0)),
    "isogclr": lambda: tt.iSogCLR(SAMPLES, rho=0.5, tau_init=0.2),
    "tempnet": lambda: tt.SogCLR(SAMPLES, tt.TempNet(4, 0.5, (0.1, 0.5), dropout=0.0), 0.6),
}


def train(name, chunk, autocast=False, steps=3):
    torch.manual_seed(0)
    module = ContrastiveModule(Towers(), LOSSES[name](), chunk=chunk)
    if not autocast:
        module.double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    values = []
    for step in range(2 * steps):
        generator = torch.Generator().manual_seed(step)
        dtype = torch.float32 if autocast else torch.float64
        a = torch.randn(ROWS, 6, generator=generator, dtype=dtype)
        b = torch.randn(ROWS, 5, generator=generator, dtype=dtype)
        index = torch.randperm(SAMPLES, generator=generator)[:ROWS]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = module(a, {"ids": b}, index, (index, index))["loss"]
        (loss / 2).backward()
        values.append(loss.detach())
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()
            module.loss_fn.step()
    return torch.stack(values), module.state_dict(), module.encoder.seen


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", [3, 5, 64])
def test_chunks_train_the_weights_tau_and_tables_of_the_plain_step(name, chunk):
    """With two accumulated batches a step."""
    values, state, _ = train(name, None)
    found, chunked, seen = train(name, chunk)
    torch.testing.assert_close(found, values, rtol=1e-9, atol=1e-9)
    for key, value in state.items():
        torch.testing.assert_close(chunked[key], value, rtol=1e-6, atol=1e-9, msg=key)
    assert max(seen) == min(chunk, ROWS)


def test_under_autocast_a_chunk_is_encoded_again_in_the_same_precision():
    """Gradients of weights are summed over chunks in bfloat16, so weights agree to its digits."""
    values, state, _ = train("learnable", None, autocast=True)
    found, chunked, _ = train("learnable", 4, autocast=True)
    torch.testing.assert_close(found[:2], values[:2], rtol=1e-6, atol=1e-6)
    for key, value in state.items():
        torch.testing.assert_close(chunked[key], value, rtol=3e-2, atol=3e-3, msg=key)


def test_dropout_is_replayed():
    """The gradient is that of the very masks whose embeddings gave the loss."""
    torch.manual_seed(0)
    towers = Towers(dropout=0.5)
    images, texts = torch.randn(ROWS, 6), torch.randn(ROWS, 5)

    def gradient(encode):
        towers.zero_grad()
        torch.manual_seed(7)
        x, y = encode()
        tt.InfoNCE(0.2)(x, y).backward()
        return [p.grad.clone() for p in towers.parameters()]

    def plain():
        parts = [towers(images[s : s + 4], {"ids": texts[s : s + 4]}) for s in range(0, ROWS, 4)]
        return tuple(torch.cat(side) for side in zip(*parts, strict=True))

    expected = gradient(plain)
    found = gradient(lambda: encode_in_chunks(towers, images, {"ids": texts}, 4))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_batch_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"1 layers normalise over the batch \(1\)"):
        check_rowwise(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))

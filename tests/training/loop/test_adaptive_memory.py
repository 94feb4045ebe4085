"""A momentum that each step's gradient sets: against the proximal step that it solves."""

import copy

import pytest
import torch

from tauten.training.loop.adaptive_memory import AdaptiveMemory
from tauten.training.loop.arguments import make_optimizer
from tauten.training.options.config import OptimConfig

RATE = 0.3


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def stepped(optimizer, weights, gradients):
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer.step()


@pytest.mark.parametrize("beta2", [None, 0.9])
@pytest.mark.parametrize("memory", [0.0, 0.3])
def test_a_step_is_the_proximal_step_on_two_planes(beta2, memory):
    """The least of max(planes) + ‖x − w‖²_P/2η + λ‖x − w + ηP⁻¹d‖²_PP/2η, among points near it."""
    weight = drawn(6, seed=1).requires_grad_()
    options = {"lr": RATE, "limit": 0.9, "memory": memory, "beta2": beta2, "eps": 1e-3}
    optimizer = AdaptiveMemory([weight], **options)
    stepped(optimizer, [weight], [drawn(6, seed=2)])
    w, state = weight.detach().clone(), copy.deepcopy(optimizer.state[weight])
    d = state["direction"]
    across = drawn(6, seed=3)
    across = across - (across @ d) / (d @ d) * d
    g = 0.1 * d + 0.6 * d.norm() / across.norm() * across
    stepped(optimizer, [weight], [g])
    assert 0.01 < float(optimizer.beta) < 0.89
    p = torch.ones(6, dtype=torch.float64)
    if beta2 is not None:
        square = beta2 * state["square"] + (1 - beta2) * g**2
        size = (square / (1 - beta2**2)).sqrt() + 1e-3
        p = (1 - 0.9 * state["product"]) * size

    def objective(x):
        step = x - w
        planes = torch.stack([step @ g, RATE * (g / p) @ d + step @ d])
        near = (p * (step + RATE * d / p)).square().sum(0)
        return planes.max() + (p * step**2).sum() / (2 * RATE) + memory * near / (2 * RATE)

    least = objective(weight.detach())
    for size in (1.0, 1e-2, 1e-4):
        for seed in range(200):
            assert objective(weight.detach() + size * drawn(6, seed=seed)) >= least - 1e-12


def test_sgd_has_one_momentum_for_all_parameters_as_in_its_closed_form():
    weights = [drawn(3, 4).requires_grad_(), drawn(5, seed=1).requires_grad_()]
    optimizer = AdaptiveMemory(weights, RATE, weight_decay=0.01)
    x, d = torch.cat([w.detach().flatten() for w in weights]), None
    for step in range(4):
        gradients = [0.2 + drawn(*w.shape, seed=7 * step + k) for k, w in enumerate(weights)]
        g = torch.cat([part.flatten() for part in gradients]) + 0.01 * x
        stepped(optimizer, weights, gradients)
        if d is None:
            d, beta = g, None
        else:
            beta = 1.1 * (g @ d) - (d - g) @ (g + 0.1 * d)
            beta = float((beta / (d - g).square().sum()).clamp(0, 0.9))
            d = ((beta + 0.1) * d + (1 - beta) * g) / 1.1
        x = x - RATE * d
        torch.testing.assert_close(torch.cat([w.detach().flatten() for w in weights]), x)
        assert (optimizer.beta is None) == (beta is None)
        if beta is not None:
            assert float(optimizer.beta) == pytest.approx(beta)


def test_without_memory_it_is_adamw_without_momentum():
    ours, theirs = (drawn(3, 4).requires_grad_() for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1}
    made = AdaptiveMemory([ours], limit=0.0, memory=0.0, beta2=0.98, **options)
    plain = torch.optim.AdamW([theirs], betas=(0.0, 0.98), **options)
    for step in range(4):
        gradient = drawn(3, 4, seed=step)
        stepped(made, [ours], [gradient])
        stepped(plain, [theirs], [gradient])
        torch.testing.assert_close(ours.detach(), theirs.detach())


@pytest.mark.parametrize("name", ["am-sgd", "am-adamw"])
def test_it_goes_on_from_what_was_saved_and_lowers_a_loss(name):
    """A narrow valley, whose slope along it a momentum adds up; rates that a schedule changes."""
    module = torch.nn.Module()
    module.encoder, module.loss_fn = torch.nn.Linear(5, 1), torch.nn.Linear(1, 1)
    config = OptimConfig(name=name, lr=0.02, weight_decay=0.01)
    x, y = drawn(64, 5).float() * torch.tensor([1.0, 1.0, 0.1, 0.1, 3.0]), drawn(64, 1).float()

    def train(module, optimizer, steps):
        for step in steps:
            optimizer.zero_grad()
            loss = (module.loss_fn(module.encoder(x)) - y).square().mean()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * (1 - step / 40)
            optimizer.step()
        return float(loss.detach())

    optimizer = make_optimizer(config, module)
    first = train(module, optimizer, range(1))
    train(module, optimizer, range(1, 10))
    other = copy.deepcopy(module)
    resumed = make_optimizer(config, other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    last = train(module, optimizer, range(10, 40))
    assert train(other, resumed, range(10, 40)) == pytest.approx(last)
    assert last < 0.98 * first


def test_options_out_of_range_are_refused():
    for limit, memory in ((1.0, 0.1), (-0.1, 0.1), (0.9, -1.0)):
        with pytest.raises(ValueError, match="must be in"):
            AdaptiveMemory([drawn(2).requires_grad_()], RATE, limit, memory)

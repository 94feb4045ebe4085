"""Values of ours against those of a formula in float64, with their gradients."""

import torch


def check(found, expected, inputs):
    """Compare two scalars, and the gradients of each input."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    ours, theirs = (
        torch.autograd.grad(value, inputs, retain_graph=True) for value in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)

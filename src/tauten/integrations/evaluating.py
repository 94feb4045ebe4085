"""The loss of an evaluation set, whose samples are not those of the training set."""

from __future__ import annotations

from tauten.losses import ContrastiveLoss
from tauten.losses.traps import looks_up


def evaluation_loss(
    loss_fn: ContrastiveLoss, eval_loss_fn: ContrastiveLoss | None
) -> ContrastiveLoss:
    """Return the loss that an evaluation set has.

    Raises:
        ValueError: a loss that would look up positions of the evaluation set among those of the
            training set.
    """
    if eval_loss_fn is None and looks_up(loss_fn):
        raise ValueError(
            f"{type(loss_fn).__name__} looks up numbers of the training samples, and positions of "
            "another set mean other samples: pass eval_loss_fn=, such as tt.InfoNCE(0.07)"
        )
    return loss_fn if eval_loss_fn is None else eval_loss_fn


def loss_of_mode(
    loss_fn: ContrastiveLoss, eval_loss_fn: ContrastiveLoss | None, *, training: bool
) -> ContrastiveLoss:
    """Return the loss for a batch of training or of evaluation, and put it into that mode.

    Raises:
        ValueError: see :func:`evaluation_loss`.
    """
    loss_fn.train(training)
    return loss_fn if training else evaluation_loss(loss_fn, eval_loss_fn).eval()

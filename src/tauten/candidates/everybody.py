"""The samples of all processes on each of them, whose gradients are not exchanged (FastCLIP)."""

from __future__ import annotations

from torch import Tensor

from tauten.pairwise.exchange import Ranks, several_processes, shared


def everybody(values: Tensor) -> Tensor:
    """Return the rows of all processes in their order, of which its own have a gradient.

    ::

        loss_fn = FastCLIP(samples, "v3", ranks="local")
        loss = loss_fn(everybody(x), everybody(y), everybody(index))

    Each process takes the loss of the whole batch and the gradient of its own rows alone, so the
    backward pass sends nothing: embeddings and numbers of samples are exchanged, and no gradients
    of embeddings. After the mean over processes, which data parallelism takes, the gradient is
    that of the whole batch, of parameters of the loss too. The price is work: each process
    goes over all pairs, and not its share of them, so it pays where the network is the limit. With
    one process the values come back as they are.

    Args:
        values: (n, ...) of this process; all processes call together.
    """
    if not several_processes():
        return values
    ranks = Ranks(len(values), len(values), values.device)
    return shared(values, ranks.gather(values.detach()), ranks)

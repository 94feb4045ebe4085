"""Literal transcriptions of the published formulas, in numpy loops over pairs."""

import math

import numpy as np


def infonce(s, tau_x, tau_y, ignore=None):
    """Per-anchor symmetric InfoNCE; row i uses tau_x[i], column i tau_y[i]."""
    n = len(s)
    out = np.zeros(n)
    for i in range(n):
        row = sum(
            math.exp(s[i, j] / tau_x[i]) for j in range(n) if i == j or not _drop(ignore, i, j)
        )
        col = sum(
            math.exp(s[j, i] / tau_y[i]) for j in range(n) if i == j or not _drop(ignore, j, i)
        )
        x2y = -math.log(math.exp(s[i, i] / tau_x[i]) / row)
        y2x = -math.log(math.exp(s[i, i] / tau_y[i]) / col)
        out[i] = (x2y + y2x) / 2
    return out


def max_margin(s, margin, ignore=None):
    """Per-anchor MI-MM; the mean over anchors is the sum over 2B(B-1) terms divided by them."""
    n = len(s)
    out = np.zeros(n)
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            if not _drop(ignore, i, j):
                out[i] += max(0.0, margin[i] - s[i, i] + s[i, j])
            if not _drop(ignore, j, i):
                out[i] += max(0.0, margin[i] - s[i, i] + s[j, i])
    return out / (2 * (n - 1))


def dcl(s, tau, ignore=None):
    """Per-anchor DCL between two sides."""
    n = len(s)
    out = np.zeros(n)
    for i in range(n):
        row = [s[i, j] / tau[i] for j in range(n) if j != i and not _drop(ignore, i, j)]
        col = [s[j, i] / tau[i] for j in range(n) if j != i and not _drop(ignore, j, i)]
        for logits in (row, col):
            if logits:
                out[i] += 0.5 * (math.log(sum(map(math.exp, logits))) - s[i, i] / tau[i])
    return out


def siglip(s, tau, bias, ignore=None):
    """Per-anchor sigmoid loss, each pair half with the temperature of either anchor."""
    n = len(s)
    out = np.zeros(n)
    for i in range(n):
        for j in range(n):
            z = 1.0 if i == j else -1.0
            if i == j or not _drop(ignore, i, j):
                out[i] += 0.5 * math.log1p(math.exp(-z * (s[i, j] / tau[i] + bias)))
            if i == j or not _drop(ignore, j, i):
                out[i] += 0.5 * math.log1p(math.exp(-z * (s[j, i] / tau[i] + bias)))
    return out


def _drop(ignore, i, j):
    return ignore is not None and ignore[i, j]

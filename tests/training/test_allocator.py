"""Memory that one step frees is there for the next one."""

import platform
import resource

import pytest
import torch

from tauten.training.allocator import keeping_memory

MIB = 2**20
#: 64 MiB four times, in the largest pages there are
MANY = 4 * 32


def faults() -> int:
    """Pages that the system hands out while 64 MiB are made and freed, after some rounds of it."""
    for _ in range(8):
        torch.ones(64 * MIB, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(64 * MIB, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_freed_memory_is_not_paged_in_again(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert faults() >= MANY
    with keeping_memory():
        assert faults() < MANY // 4
    assert faults() >= MANY


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_a_choice_of_the_user_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    with keeping_memory():
        assert faults() >= MANY

"""Memory that one step frees is there for the next one."""

import json
import os
import platform
import subprocess
import sys

import pytest

#: pages that the system hands out while 64 MiB are made and freed four times, before and while
#: memory is kept, and once afterwards, when it was given back; in a process of its own, whose
#: memory nothing else has shaped
COUNT = """
import json, resource, torch
from tauten.training.allocator import keeping_memory

def faults(first=8, times=4):
    for _ in range(first):
        torch.ones(64 * 2**20, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(64 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [faults()]
with keeping_memory():
    found.append(faults())
print(json.dumps([*found, faults(first=0, times=1)]))
"""
#: 64 MiB in the largest pages there are
ONCE = 32
MANY = 4 * ONCE


def counted(**variables: str) -> list[int]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", COUNT], env=env | variables, capture_output=True, check=True
    )
    return json.loads(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_freed_memory_is_not_paged_in_again():
    before, during, after = counted()
    assert before >= MANY
    assert during < MANY // 4
    assert after >= ONCE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_a_choice_of_the_user_stays():
    before, during, _ = counted(MALLOC_ARENA_MAX="4")
    assert min(before, during) >= MANY

"""Memory that one step frees is there for the next one."""

import json
import os
import platform
import subprocess
import sys

import pytest

#: pages that the system hands out each time that 32 MiB are made and freed, before and while memory
#: is kept, and once afterwards, when it was given back; in a process of its own, whose memory
#: nothing else has shaped. malloc sets the first seven small pieces of a size aside, so it reuses
#: memory from about the eighth time on. The middle one of nine counts: a system short of memory may
#: take pages away at any moment.
COUNT = """
import json, resource, statistics, torch
from tauten.training.loop.allocator import keeping_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(32 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def middle(first=16):
    for _ in range(first):
        faults()
    return statistics.median(faults() for _ in range(9))

found = [middle()]
with keeping_memory():
    found.append(middle())
print(json.dumps([*found, faults()]))
"""
#: 32 MiB in the largest pages there are
ONCE = 16


def counted(**variables: str) -> list[float]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", COUNT], env=env | variables, capture_output=True, check=True
    )
    return json.loads(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_freed_memory_is_not_paged_in_again():
    before, during, after = counted()
    assert before >= ONCE
    assert during < ONCE // 4
    assert after >= ONCE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_a_choice_of_the_user_stays():
    before, during, _ = counted(MALLOC_ARENA_MAX="4")
    assert min(before, during) >= ONCE

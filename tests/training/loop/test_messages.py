"""How many messages the processes of a training send in each step, and that none is pickled."""

import json
import socket
from pathlib import Path

import pytest

import forks

WORKER = Path(__file__).with_name("step_messages.py")
#: three batch normalisations send two each, and the first step has one or two more
MOST = {"emoji_infonce_mmts": 7, "emoji_isogclr": 8}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("recipe", MOST)
def test_two_processes_send_few_messages_a_step(tmp_path, recipe):
    port, out = free_port(), tmp_path / "sent.json"
    words = [(rank, port, tmp_path / "run", f"{out}{rank}", recipe) for rank in range(2)]
    forks.run_all(WORKER, words)
    first, second = (json.loads(Path(f"{out}{rank}").read_text()) for rank in range(2))
    assert first == second
    assert len(first) > 2
    assert not any("object" in name for step in first for name in step)
    for step in first[1:]:
        assert 6 < len(step) <= MOST[recipe], step

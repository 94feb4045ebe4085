"""A batch encoded in chunks trains what the batch without chunks trains, over processes."""

import json
from pathlib import Path

from forks import run

SCRIPT = Path(__file__).with_name("chunked.py")


def test_chunks_under_ddp_and_fsdp2_with_dropout_autocast_and_accumulation(tmp_path):
    """To 1e-9 in float64; to 1e-6 in float32, and in bfloat16 with the same dropout masks."""
    run(SCRIPT, tmp_path)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"cases": 18, "problems": []}

"""Several processes equal one: losses with graded relevancy, on shards of 5, 0 and 3 rows."""

import json
import subprocess
import sys
from pathlib import Path


def test_graded_relevancy_on_uneven_shards(tmp_path):
    script, out = Path(__file__).parent / "relevancy_worker.py", tmp_path / "found.json"
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), "3", tmp_path / "store", out])
        for rank in range(3)
    ]
    assert [process.wait(timeout=200) for process in processes] == [0, 0, 0]
    assert json.loads(out.read_text()) == {"cases": 9, "problems": []}

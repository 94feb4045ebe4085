"""Several processes equal one: losses with graded relevancy, on shards of 5, 0 and 3 rows."""

import json
from pathlib import Path

from forks import run_all


def test_graded_relevancy_on_uneven_shards(tmp_path):
    script, out = Path(__file__).parent / "relevancy_worker.py", tmp_path / "found.json"
    run_all(script, [(rank, 3, tmp_path / "store", out) for rank in range(3)])
    assert json.loads(out.read_text()) == {"cases": 9, "problems": []}

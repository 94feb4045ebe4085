"""The real open_clip: its models are started from, and it reads what is exported for it."""

import json

from test_resume import run


def test_models_of_open_clip_are_read_and_written(tmp_path, capsys):
    run("open_clip_start", tmp_path)
    found = json.loads((tmp_path / "differences.json").read_text())
    with capsys.disabled():
        print(f"\nopen_clip: {found}")
    assert found.pop("trained")["moved"] > 1e-3
    assert len(found) == 4
    for sides in found.values():
        assert max(sides.values()) < 1e-5, found

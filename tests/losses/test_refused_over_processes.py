"""A row that is NaN is named by the process that was given it, and by no other."""

from pathlib import Path

from forks import found_by

ELSEWHERE = "another process was given NaN or infinite embeddings"


def test_each_process_says_where_the_nan_came_from(tmp_path):
    """Five losses, in a small batch that is pooled and in parts, ring and gather."""
    other, giver = found_by(Path(__file__).with_name("refused_worker.py"), tmp_path, 2)
    assert len(giver) == 24
    for (loss, way, named), said in giver.items():
        case = f"{loss} {way} index={named}"
        heard = other[loss, way, named]
        if loss == "overflow":
            for rank, message in enumerate((heard, said)):
                assert "of 3 anchors is NaN or infinite" in message, case
                ids = f"data set ids {', '.join(str(3 * rank + i) for i in range(3))}"
                assert (ids in message) == named, f"{case}: {message}"
            continue
        assert said.startswith("x has NaN or infinite embeddings in 1 of 3 rows: 1"), case
        assert said.endswith("; data set ids 4" if named else "rows: 1"), f"{case}: {said}"
        assert heard.startswith(ELSEWHERE), f"{case}: {heard}"

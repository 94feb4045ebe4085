from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.structure import plot_tail

ZIPF = [max(1, 500 // rank) for rank in range(1, 99)]


def test_picture_is_light_large_and_drawn(tmp_path: Path) -> None:
    plot_tail(ZIPF, tmp_path / "tail.png")
    pixels = np.asarray(Image.open(tmp_path / "tail.png").convert("RGB")).astype(int)
    assert pixels.shape == (675, 1200, 3)
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    assert 0.5 < (pixels.min(axis=2) > 240).mean() < 0.98
    blue = (pixels[..., 2] - pixels[..., 0] > 60).sum(axis=0)
    columns = np.flatnonzero(blue)
    assert columns[0] < 250
    assert columns[-1] > 1000


def test_what_is_written_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    plot_tail(torch.tensor([2, 518, 26]), tmp_path / "t.svg", title="Sizes", noun="class")
    text = (tmp_path / "t.svg").read_text()
    for part in (
        "Sizes",
        "546 samples, 3 classes",
        "largest 518, median 26, smallest 2",
        "ratio 259",
        "samples in the class (log scale)",
        "rank of the class, largest first",
    ):
        assert part in text


def test_order_of_the_counts_does_not_matter(tmp_path: Path) -> None:
    plot_tail(ZIPF, tmp_path / "a.png")
    plot_tail(ZIPF[::-1], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("counts", [[5], [3, 3, 3], [10**7, 1]])
def test_extremes_can_be_drawn(tmp_path: Path, counts: list[int]) -> None:
    plot_tail(counts, tmp_path / "tail.png")
    with Image.open(tmp_path / "tail.png") as picture:
        assert picture.size == (1200, 675)


def test_no_counts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no counts to draw"):
        plot_tail([], tmp_path / "tail.png")


def test_empty_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, smallest is 0"):
        plot_tail([3, 0, 5], tmp_path / "tail.png")


def test_a_title_is_text_and_no_formula(tmp_path):
    plot_tail(ZIPF, tmp_path / "a.svg", title=r"clusters of $\frac{1}{$.jsonl")
    assert (tmp_path / "a.svg").exists()


def test_a_plot_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def stopped(figure: object, file: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    plot_tail([3, 2, 1], tmp_path / "a.svg")
    before = (tmp_path / "a.svg").read_bytes()
    assert b"<svg" in before
    monkeypatch.setattr(Figure, "savefig", stopped)
    with pytest.raises(KeyboardInterrupt):
        plot_tail([5, 1], tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]

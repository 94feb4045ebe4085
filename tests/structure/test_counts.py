import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tauten.structure import class_counts


def test_each_sample_gets_the_size_of_its_class() -> None:
    counts = class_counts(["dog", "cat", "dog", "dog", "eel"])
    assert counts.dtype == torch.int64
    assert counts.tolist() == [3, 1, 3, 3, 1]


def test_any_hashable_is_a_class() -> None:
    assert class_counts([(1, 2), (1, 3), (1, 2)]).tolist() == [2, 1, 2]
    assert class_counts([0, 0, 1]).tolist() == [2, 2, 1]


def test_counts_of_another_split() -> None:
    assert class_counts(["dog", "emu"], ["dog", "dog", "cat"]).tolist() == [2, 0]


def test_no_labels() -> None:
    with pytest.raises(ValueError, match="labels is empty"):
        class_counts([])


def test_no_reference() -> None:
    with pytest.raises(ValueError, match="reference is empty"):
        class_counts(["dog"], [])


def test_missing_label() -> None:
    with pytest.raises(ValueError, match="2 of 3 labels are None or NaN, first at position 1"):
        class_counts(["dog", None, None])
    with pytest.raises(ValueError, match="1 of 2 labels are None or NaN, first at position 0"):
        class_counts([float("nan"), 3.0])
    with pytest.raises(ValueError, match="1 of 2 reference are None or NaN, first at position 1"):
        class_counts(np.array([1.0]), np.array([1.0, np.nan]))


@pytest.mark.parametrize("make", [list, torch.tensor, np.array])
def test_numbers_are_counted_wherever_they_come_from(make) -> None:
    assert class_counts(make([4, 4, 7])).tolist() == [2, 2, 1]
    assert class_counts(make([4, 9]), make([4, 4, 7])).tolist() == [2, 0]
    assert class_counts([torch.tensor(4), torch.tensor(4), torch.tensor(7)]).tolist() == [2, 2, 1]


def test_what_is_no_list_of_classes() -> None:
    with pytest.raises(ValueError, match="a list of classes, one for each sample, not 'abc'"):
        class_counts("abc")
    with pytest.raises(ValueError, match=r"labels must be \(N,\), one class for each sample"):
        class_counts(torch.zeros(3, 2, dtype=torch.long))


def test_counting_needs_torch_alone() -> None:
    program = (
        "import sys, tauten.structure as s\n"
        "print(s.class_counts(['a', 'b', 'a']).tolist())\n"
        "heavy = {'faiss', 'sentence_transformers', 'transformers'}\n"
        "heavy |= {'pyarrow', 'matplotlib', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["[2, 1, 2]", "[]"], done.stderr

import pytest
import torch

from tauten.data import count_groups


def test_boundaries_belong_to_the_larger_group() -> None:
    assert count_groups([0, 19, 20, 99, 100, 518]) == ["tail", "tail", "mid", "mid", "head", "head"]


def test_tensor_counts_and_own_boundaries() -> None:
    assert count_groups(torch.tensor([1, 5, 9]), head=6, tail=6) == ["tail", "tail", "head"]


def test_no_counts_no_groups() -> None:
    assert count_groups([]) == []


@pytest.mark.parametrize(("head", "tail"), [(10, 20), (10, 0), (-1, -2)])
def test_boundaries_are_validated(head: int, tail: int) -> None:
    with pytest.raises(ValueError, match=f"tail = {tail}, head = {head}"):
        count_groups([1], head=head, tail=tail)


def test_counts_must_be_a_vector() -> None:
    with pytest.raises(ValueError, match=r"one-dimensional, got shape \(1, 2\)"):
        count_groups(torch.ones(1, 2))


def test_counts_must_be_whole() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        count_groups(torch.tensor([1.0, 2.5]))


def test_counts_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match=r">= 0, smallest is -3"):
        count_groups([4, -3])

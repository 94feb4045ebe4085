"""What may stand in one table."""

import dataclasses
from pathlib import Path

import pytest

from tauten.report import SeedRun, comparable


def run(name, **config):
    return SeedRun(Path(name), config, {"test": {}}, [], {}, {}, None)


ONE = {
    "fingerprint": {"train": "t", "test": "abc"},
    "data": {"protocol": "5k", "relevancy": "none", "limit": None},
    "task": "pairs",
    "runlocal": False,
}


def test_runs_on_the_same_test_split_and_protocol_are():
    comparable(run("a", **ONE), run("b", **ONE))
    other = {**ONE, "fingerprint": {"train": "less", "test": "abc"}, "optim": {"lr": 1}}
    comparable(run("a", **ONE), run("b", **other))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fingerprint": {"test": "xyz"}}, "the fingerprint of the test split is abc in a and xyz"),
        ({"data": {"protocol": "1k-of-5k"}}, "data.protocol is 5k in a and 1k-of-5k in b"),
        ({"data": {"relevancy": "names"}}, "data.relevancy is none in a and names in b"),
        ({"task": "views"}, "task is pairs in a and views in b"),
        ({"runlocal": True}, "runlocal is False in a and True in b"),
    ],
)
def test_others_are_refused_with_what_differs(changed, said):
    with pytest.raises(ValueError, match=f"cannot be compared: {said}"):
        comparable(run("a", **ONE), run("b", **{**ONE, **changed}))


def test_what_is_not_recorded_is_not_compared():
    comparable(run("a", **ONE), run("b"))
    comparable(run("a", fingerprint="old"), run("b", **ONE))


def test_a_report_refuses_them(tmp_path, finished):
    from tauten import report

    with pytest.raises(ValueError, match="these results cannot be compared: runlocal is"):
        report.write(finished, tmp_path / "report")


@pytest.fixture
def finished(tmp_path):
    """Two folders of one finished run, one of them called a trial."""
    import shutil

    import yaml

    from tauten.recipes import get, runlocal
    from tauten.training import train

    config = runlocal(get("emoji_infonce_constant")())
    config = dataclasses.replace(config, output=tmp_path / "one", progress=False, tensorboard=False)
    config.data.limit, config.optim.batch_size, config.optim.epochs = 64, 32, 1
    config.model.channels, config.model.dim = (8,), 8
    config.evaluation.every, config.evaluation.bootstrap = 1, 2
    train(config)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    record = yaml.safe_load((tmp_path / "two" / "config.yaml").read_text("utf-8"))
    record["config"] |= {"runlocal": False, "name": "whole"}
    (tmp_path / "two" / "config.yaml").write_text(yaml.safe_dump(record), "utf-8")
    return [tmp_path / "one", tmp_path / "two"]

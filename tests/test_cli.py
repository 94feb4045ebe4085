"""The command line as a user types it."""

import gc
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.cli import main
from tauten.cli.imports import quick_imports
from tauten.recipes import RECIPES
from tauten.training.options.words import parsed

pairs = RECIPES["pairs"]

SMALL = [
    *("--data.limit", "160", "--epochs", "2", "--optim.batch-size", "32"),
    *("--model.channels", "8", "16", "--model.dim", "16", "--model.text-width", "16"),
    *("--evaluation.every", "1", "--evaluation.bootstrap", "50"),
    *("--no-progress", "--no-tensorboard"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "emoji_infonce_mmts", *SMALL, "--output", str(output)]) == 0
    return output


def test_train_writes_a_run_and_a_second_start_finds_it_finished(run, capsys):
    before = (run / "results.json").read_bytes()
    assert main(["train", "emoji_infonce_mmts", *SMALL, "--output", str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"run: {run}" in printed
    assert "x2y/hit@1" in printed
    assert (run / "results.json").read_bytes() == before


def test_train_with_other_settings_in_the_same_folder_is_refused(run, capsys):
    words = ["train", "emoji_infonce_mmts", *SMALL, "--output", str(run), "--seed", "5"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "seed: 5, was 0" in said
    assert "or --overwrite to start anew" in said


def test_evaluate_repeats_the_metrics_of_the_run(run, tmp_path):
    words = ["evaluate", str(run), "--bootstrap", "50", "--output", str(tmp_path / "m.json")]
    assert main(words) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    expected = json.loads((run / "results.json").read_text())["test"]
    assert found["x2y/hit@5"] == expected["x2y/hit@5"]


def test_evaluate_names_its_options_of_other_data(run, tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    table = tmp_path / "pairs.csv"
    table.write_text("photo,title\na.png,a dark square\n")
    words = ["evaluate", str(run), "--data", str(table), "--bootstrap", "0"]
    assert main([*words, "--image", "photo"]) == 1
    assert "choose one with caption= (--caption)" in capsys.readouterr().err
    assert main([*words, "--image", "photo", "--caption", "title"]) == 0
    assert "x2y/hit@1" in capsys.readouterr().out


def test_a_folder_of_classes_is_told_what_can_be_typed(run, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    quoted = "'tauten train caltech98_lt_simclr --data.label=label'"
    assert main(["data", "check", str(tmp_path)]) == 1
    assert f"(here --views, for example {quoted})" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", str(tmp_path)]) == 1
    assert f"need none (for example {quoted})" in capsys.readouterr().err


def test_a_check_of_data_asks_for_no_share(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a dark square")
    assert main(["data", "check", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "give more data, or --val and --test" in error
    assert "held_out" not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_remedy_is_spelled_as_the_option_was(run, tmp_path, capsys):
    words = ["embed", str(run), "--device=cuda", "--output", str(tmp_path / "e")]
    assert main(words) == 1
    assert "--device=cuda: torch sees no GPU here; use --device=cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("set optim.batch_size=18 or less", "--set optim.batch_size=18 or less"),
        ("name it with data.label, or more", "name it with --set data.label=VALUE, or more"),
        ("x: config.optim.epochs: 3, was 2", "x: config.optim.epochs: 3, was 2"),
        ("optim.epochs must be above 0", "optim.epochs must be above 0"),
        ("use --set data.limit=3", "use --set data.limit=3"),
    ],
)
def test_a_comparison_names_settings_as_it_takes_them(message, typed, capsys, monkeypatch):
    def refuse(*_):
        raise ValueError(message)

    monkeypatch.setattr("tauten.comparison.options.settings", refuse)
    assert main(["compare"]) == 1
    assert capsys.readouterr().err.strip() == f"tauten: {typed}"


def test_report_names_the_page_that_it_wrote(run, tmp_path, capsys):
    assert main(["report", str(run), "--output", str(tmp_path)]) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_cluster_writes_counts_and_a_picture(tmp_path, capsys):
    captions = tmp_path / "captions.txt"
    animals = ["a cat", "two cats", "a small cat", "a dog", "a big dog", "a red car", "a blue car"]
    captions.write_text("\n".join(animals))
    output = tmp_path / "clusters.parquet"
    words = ["cluster", str(captions), "-k", "3", "--output", str(output)]
    assert main(words) == 0
    assert "7 captions in 3 clusters" in capsys.readouterr().out
    assert output.with_suffix(".png").is_file()
    assert main(words) == 1
    assert "overwrite" in capsys.readouterr().err


def test_an_unreadable_image_is_skipped_and_counted_or_fatal_with_strict(tmp_path, capsys, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}")
    (folder / "7.png").write_bytes(b"no image")
    words = ["train", "pairs", "--data", str(folder), "--data.image-size", "32", *SMALL]
    words += ["--optim.batch-size", "8"]
    assert main([*words, "--output", str(tmp_path / "lenient")]) == 0
    assert "skipped 1 of 40" in caplog.text
    assert main([*words, "--strict", "--output", str(tmp_path / "strict")]) == 1
    assert "7.png" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


def test_recipes_lists_what_train_knows(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    for name in ("emoji_infonce_constant", "emoji_maxmargin_mmts", "pairs", "search", "demo"):
        assert name in listed
    assert main(["train"]) == 0
    assert listed in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nothing"], "no recipe 'nothing'; 'tauten recipes' lists all"),
        (["train", "pairs", "--data", "/missing"], "/missing"),
        (["train", "pairs", "--data", "flickr30k"], "give flickr30k:FOLDER"),
        (["train", "pairs", "--init", "/missing"], "--init=/missing"),
        (["evaluate", "/missing"], "/missing is no folder"),
        (["cluster", "/missing", "-k", "3", "--output", "x.parquet"], "/missing"),
        (["report", "/missing"], "/missing"),
        (["demo", "--seeds", "0"], "--seeds must be 1 or more, got 0"),
        (["demo", "--epochs", "0"], "optim.epochs must be in (0, 1e+06], got 0.0"),
        (["train", "pairs", "--epochs", "0"], "--optim.epochs must be in (0, 1e+06], got 0.0"),
        (["train", "pairs", "--epochs", "1e300"], "--optim.epochs must be in (0, 1e+06]"),
        (["train", "pairs", "--optim.max-grad-norm", "nan"], "--optim.max-grad-norm must be in [0"),
        (["train", "pairs", "--seed", "-1"], "--seed must be in [0, 4294967295], got -1"),
        (
            ["train", "emoji_infonce_mmts", "--evaluation.metric", "x2y/mean_rank"],
            "--evaluation.metric='x2y/mean_rank' is none of this validation where higher is",
        ),
        (
            ["train", "emoji_infonce_mmts", "--data.protocol", "5k"],
            "emoji_lt is searched with --data.protocol=all",
        ),
        (["evaluate", "/missing", "--label", "nosuch"], "give data too, or leave them out"),
        (["train", "pairs", "--output", "", "--overwrite"], "--output is empty, as of a shell"),
        (["demo", "--output="], "--output is empty, as of a shell variable"),
        (["compare", "--out", " "], "--output is empty, as of a shell variable"),
        (["report", "/missing", "--output", ""], "--output is empty, as of a shell variable"),
        (["evaluate", "/missing", "--output", ""], "--output is empty, as of a shell variable"),
        (["cluster", "/missing", "-k", "3", "--output", ""], "--output is empty, as of a shell"),
        (["evaluate", "/missing", "--data", ""], "--data is empty, as of a shell variable that is"),
        (
            ["train", "emoji_infonce_mmts", "--init="],
            "--init is empty, as of a shell variable that",
        ),
        (["train", "--config", ""], "--config is empty, as of a shell variable that is not set"),
        (["evaluate", "--x=", "--y", "y.npy"], "--x is empty, as of a shell variable that is not"),
        (["train", "pairs", "--data", ""], "not set: name what to read"),
        (["data", "check", "cc3m", "--root", "x", "--json", ""], "--json is empty, as of a shell"),
        (["evaluate", "/missing", "--bootstrap", "-1"], "--bootstrap must be in [0, 1000000], got"),
        (["compare", "--threads", "0"], "--threads must be 1 or more, got 0"),
        (["compare", "--trials=0"], "--trials must be 1 or more, got 0"),
        (["compare", "--frozen", "--hidden", "-1"], "--hidden must be 0 or more, got -1"),
        (["embed", "/missing", "x", "--batch-size", "0", "--output", "e"], "--batch-size must be"),
        (["export", "/missing", "--to", "x", "--output", "e"], "--to is one of sentence-transf"),
        (["evaluate", "--x", "a.npy", "--y", "b.npy"], "--x=a.npy is no file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_failure(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("tauten: ")
    assert message in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "evaluate", "cluster", "report", "recipes"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert command in capsys.readouterr().out


def test_no_command_prints_the_help(capsys):
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--family", "isogclr"], ("individual", 0.07)),
        (["--family=maxmargin"], ("constant", 0.2)),
        (["--family", "maxmargin", "--control.value", "0.3"], ("constant", 0.3)),
        (["--family", "fastclip", "--loss.version", "v2"], ("individual", 0.07)),
        (["--family", "siglip", "--control.kind", "learnable"], ("learnable", 0.07)),
        (["--family", "sms", "--data.relevancy", "names"], ("constant", 0.2)),
        ([], ("constant", 0.07)),
    ],
)
def test_a_family_alone_sets_its_control(words, expected):
    config = parsed("pairs", "", pairs(), words)
    assert (config.control.kind, config.control.value) == expected
    config.validate()


def shown_options(capsys, *words, last="--help"):
    with pytest.raises(SystemExit):
        main(["train", *words, last])
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    return {line.split()[0].rstrip(",") for line in lines if line.startswith("--")}


def test_help_shows_the_options_of_the_recipe_and_no_others(capsys):
    found = shown_options(capsys, "emoji_infonce_mmts")
    assert len(found) <= 75
    assert {"--control.alpha", "--loss.force", "--model.channels", "--optim.beta2"} <= found
    foreign = (
        "--control.rho",
        "--control.value",
        "--loss.gamma",
        "--loss.bias",
        "--model.views.hue",
    )
    assert not found & {*foreign, "--optim.momentum", "--model.text-pooling", "--data.caption"}


def test_options_that_few_set_are_named_and_explained_on_demand(capsys):
    words = ("emoji_infonce_mmts", "--data.span-low", "0.5")
    seldom = {"--data.span-high", "--data.others", "--terms.koleo", "--protect.groups"}
    with pytest.raises(SystemExit):
        main(["train", *words, "--help"])
    named = capsys.readouterr().out.partition("explained by --help-all:")[2].partition(".\n")[0]
    assert seldom <= {*named.replace(",", " ").split()}
    shown = shown_options(capsys, *words)
    assert not seldom & shown
    assert "--data.span-low" in shown
    whole = shown_options(capsys, *words, last="--help-all")
    assert seldom | shown | {"--model.augmentation.hue"} <= whole
    assert "--control.rho" not in whole


def test_words_bring_the_options_that_they_need(capsys):
    words = ("--family", "isogclr", "--optim.name=sgd", "--model.image", "resnet18")
    found = shown_options(capsys, "emoji_infonce_mmts", *words)
    assert {"--control.rho", "--loss.gamma", "--optim.momentum"} <= found
    assert not found & {"--control.alpha", "--optim.beta2", "--model.channels"}
    config = parsed("pairs", "", pairs(), ["--optim.name", "sgd", "--optim.momentum", "0.5"])
    assert (config.optim.name, config.optim.momentum) == ("sgd", 0.5)
    assert type(config.optim).__module__ == "tauten.training.options.config"


def test_commands_that_print_leave_garbage_collection_as_it_was(capsys):
    assert gc.isenabled()
    assert main(["recipes"]) == 0
    assert gc.isenabled()
    with pytest.raises(SystemExit):
        main(["train", "emoji_infonce_mmts", "--help"])
    assert gc.isenabled()


def test_imports_leave_garbage_alone_and_collection_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "imported_late.py").write_text("kept = [[]]\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    frozen = []
    with quick_imports():
        assert not gc.isenabled()
        with quick_imports():
            import imported_late
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [False]
    with pytest.raises(ImportError), quick_imports():
        import nothing_of_this_name  # noqa: F401
    assert gc.isenabled()
    with quick_imports():
        import imported_late  # noqa: F401
    assert frozen == [False]
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
    del sys.modules["imported_late"]

import json
import shutil

import pytest
import yaml

from tauten.cli import main
from tauten.data import emoji_lt
from tauten.training import evaluate
from tauten.training.tasks.loading import load_encoder


def test_a_run_gives_its_own_numbers_again(finished_run):
    before = sorted(finished_run.output.rglob("*"))
    found = evaluate(finished_run.output, bootstrap=20)
    assert found == finished_run.test
    found = evaluate(finished_run.output / "checkpoints" / "best", split="val", bootstrap=20)
    assert found == finished_run.val
    assert sorted(finished_run.output.rglob("*")) == before


def test_other_data(finished_run, tmp_path):
    dataset = emoji_lt("val").select(range(40))
    output = tmp_path / "metrics.json"
    found = evaluate(finished_run.output, dataset, label="label", bootstrap=0, output=output)
    assert found["x2y/n"] == 40
    assert json.loads(output.read_text()) == found
    assert "x2y/hit@1/tail" in found
    assert "x2y/hit@1/tail" not in evaluate(finished_run.output, dataset, bootstrap=0)


def test_a_split_is_of_the_runs_own_data(finished_run, tmp_path, capsys):
    words = ["evaluate", str(finished_run.output), "--data", str(tmp_path), "--split", "val"]
    assert main(words) == 1
    assert "--split val is of the run's own data" in capsys.readouterr().err


def test_data_on_disk(finished_run, tmp_path):
    for row in emoji_lt("val").select(range(12)):
        row["image"].save(tmp_path / f"{row['id']}.png")
        (tmp_path / f"{row['id']}.txt").write_text(row["caption"])
    assert evaluate(finished_run.output, tmp_path, bootstrap=0)["y2x/n"] == 12


def test_changed_data_are_refused(finished_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished_run.output, copy)
    record = yaml.safe_load((copy / "config.yaml").read_text())
    record["data"]["test"] = "0123"
    (copy / "config.yaml").write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match="checkpoint of another data set: the test split"):
        evaluate(copy)


def test_what_is_no_run(tmp_path, finished_run):
    with pytest.raises(ValueError, match="is no folder"):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="neither a run nor a complete checkpoint"):
        evaluate(tmp_path)
    shutil.copy(finished_run.output / "config.yaml", tmp_path)
    with pytest.raises(ValueError, match="no best checkpoint"):
        evaluate(tmp_path)
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        load_encoder(tmp_path)


def test_a_best_checkpoint_that_is_gone_is_missed(finished_run, tmp_path):
    for name in ("config.yaml", "results.json"):
        shutil.copy(finished_run.output / name, tmp_path / name)
    with pytest.raises(ValueError, match="best is missing, though the run .* has results: bring"):
        evaluate(tmp_path)


def test_the_modules_mode_is_restored(finished_run):
    encoder, tokenizer, classes = load_encoder(finished_run.output / "checkpoints" / "best")
    assert not encoder.training
    assert tokenizer.vocabulary_size == encoder.text_tower.vocabulary_size
    assert classes is not None
    assert sum(classes.counts.values()) == 96


def test_options_of_other_data_need_other_data(finished_run, tmp_path):
    with pytest.raises(ValueError, match="give data too, or leave them out, got label='nosuch'"):
        evaluate(finished_run.output, label="nosuch")
    with pytest.raises(ValueError, match="protocol='5k'"):
        evaluate(finished_run.output, protocol="5k")
    with pytest.raises(ValueError, match=r"no label column 'nosuch' in \S"):
        evaluate(finished_run.output, emoji_lt("val").select(range(8)), label="nosuch")
    with pytest.raises(ValueError, match="5000 test images with 5 captions, there are 8"):
        evaluate(finished_run.output, emoji_lt("val").select(range(8)), protocol="5k")
    with pytest.raises(ValueError, match="leave them out, got caption='text'"):
        evaluate(finished_run.output, caption="text")
    with pytest.raises(ValueError, match="no image column 'photo'; columns: "):
        evaluate(finished_run.output, emoji_lt("val").select(range(8)), image="photo")
    with pytest.raises(ValueError, match="bootstrap must be in"):
        evaluate(finished_run.output, bootstrap=-1)


def test_other_data_have_columns_of_their_own(finished_run, tmp_path):
    dataset = emoji_lt("val").select(range(12))
    expected = evaluate(finished_run.output, dataset, bootstrap=0)
    renamed = dataset.rename_columns({"image": "photo", "caption": "title"})
    renamed = renamed.add_column("caption", ["another text"] * 12)
    output = tmp_path / "new" / "folder" / "e.json"
    columns = {"image": "photo", "caption": "title"}
    found = evaluate(finished_run.output, renamed, bootstrap=0, output=output, **columns)
    assert found == pytest.approx(expected)
    assert json.loads(output.read_text()) == found

    table = tmp_path / "pairs.csv"
    lines = ["photo,title"]
    for row in dataset:
        row["image"].save(tmp_path / f"{row['id']}.png")
        lines.append(f'{row["id"]}.png,"{row["caption"]}"')
    table.write_text("\n".join(lines))
    found = evaluate(finished_run.output, table, bootstrap=0, **columns)
    assert found["x2y/hit@1"] == pytest.approx(expected["x2y/hit@1"])
    assert found["y2x/n"] == 12


def test_an_output_that_cannot_be_written_is_refused_before_the_work(finished_run, tmp_path):
    (tmp_path / "file").touch()
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ValueError, match="is a folder: name a json file"):
        evaluate(finished_run.output, nowhere, output=tmp_path)
    with pytest.raises(ValueError, match=r"file is no folder: choose another output"):
        evaluate(finished_run.output, nowhere, output=tmp_path / "file" / "x" / "e.json")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate(finished_run.output, nowhere, output=tmp_path / "new" / "e.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

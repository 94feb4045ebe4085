"""What is said of one's own data before a training."""

import io
import re
import tarfile

import pytest
from PIL import Image

from tauten.cli import main
from tauten.training import DataConfig
from tauten.training.stores.data_check import check_data


@pytest.fixture
def table(tmp_path):
    """Thirty pictures, two captions each in a row of its own, classes of 15, 10 and 5."""
    rows = ["image,caption,kind"]
    for number in range(30):
        Image.new("RGB", (8, 8), (8 * number, 255 - 8 * number, 40)).save(
            tmp_path / f"{number}.png"
        )
        kind = "owl" if number < 15 else "kea" if number < 25 else "moa"
        kind = "" if number == 0 else kind
        rows += [f"{number}.png,bird {number} {side},{kind}" for side in ("left", "right")]
    path = tmp_path / "birds.csv"
    path.write_text("\n".join(rows))
    return path


def columns(text, name):
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
    return line.split()[1:]


def test_sizes_tail_and_first_pairs_are_those_of_a_training(table):
    config = DataConfig(source=str(table), test=str(table), val=str(table), label="kind")
    config.head, config.tail = 15, 10
    text = check_data(config, progress=False)
    for split in ("train", "val", "test"):
        assert columns(text, split) == ["30", "60", "60"]
    assert "classes of train, column 'kind': 3, from 14 (owl) to 5 (moa), 2.8 times" in text
    assert columns(text, "head")[:4] == ["0", "classes,", "0", "images,"]
    assert columns(text, "mid")[:4] == ["2", "classes,", "24", "images"]
    assert columns(text, "tail")[:4] == ["1", "classes,", "5", "images,"]
    assert "  1 image without a class" in text
    first = text.splitlines()[-5:]
    assert first[0] == "  0.png  bird 0 left (and 1 more)"
    assert first[1] == "  1.png  [owl]  bird 1 left (and 1 more)"


def test_data_without_classes_say_how_to_name_them(table, capsys):
    assert main(["data", "check", str(table)]) == 0
    said = capsys.readouterr().out
    assert "--data.label COLUMN" in said
    assert "columns: kind" in said
    train, val, test = (int(columns(said, split)[0]) for split in ("train", "val", "test"))
    assert train + val + test == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "no such file"),
        (["TABLE", "--caption", "text"], "no caption column 'text'"),
        (["TABLE", "--label", "class"], "no label column 'class'"),
        (["TABLE", "--all"], "--all and --json are of a known data set"),
        (["TABLE", "--image", "text", "--texts"], "no column 'text'; columns: "),
        (["TABLE", "--image", "text", "--texts"], "choose one with image= (--image)"),
        (["TABLE", "--texts", "--views"], "give one of both"),
        (["coco35"], "give --root FOLDER"),
    ],
)
def test_what_cannot_be_checked_is_refused(table, words, message, capsys):
    words = [str(table) if word == "TABLE" else word for word in words]
    assert main(["data", "check", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.fixture
def cut(tmp_path):
    """A tar of forty pictures with captions that ends in the 38th."""
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for number in range(40):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8), (6 * number, 255 - 6 * number, 40)).save(picture, "PNG")
            caption = f"bird {number}".encode()
            for kind, content in (("png", picture.getvalue()), ("txt", caption)):
                info = tarfile.TarInfo(f"{number:02}.{kind}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    content = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: 37 * 4 * 512 + 600])
    return tmp_path / "cut.tar"


def test_the_remedy_of_a_cut_tar_can_be_typed(cut, capsys, monkeypatch):
    assert main(["data", "check", str(cut)]) == 1
    option = re.search(r"or (--\S+) to use the whole members", capsys.readouterr().err)[1]
    assert main(["data", "check", str(cut), option]) == 0
    said = capsys.readouterr().out
    assert sum(int(columns(said, name)[0]) for name in ("train", "val", "test")) == 37
    assert main(["evaluate", "st:nothing", "--data", str(cut)]) == 1
    assert "allow_truncated" not in capsys.readouterr().err

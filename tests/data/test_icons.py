"""Icons of an npm package as pairs with a long tail of categories."""

import io
import json

import pytest
from PIL import Image

from tauten.cli import main
from tauten.data import load_pairs
from tauten.data.icons import write_icons

SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24"><path d="M0 0h12v24H0z"/></svg>'
)
ICONS = {
    "arrow-up": ("Arrows", ["north", 1]),
    "arrow-down": ("Arrows", []),
    "cat": ("Animals", ["pet"]),
}


@pytest.fixture
def package(tmp_path):
    listed = {}
    for name, (category, tags) in ICONS.items():
        styles = ("outline",) if name == "cat" else ("outline", "filled")
        listed[name] = {
            "category": category,
            "tags": tags,
            "styles": {style: {} for style in styles},
        }
        for style in styles:
            folder = tmp_path / "package" / "icons" / style
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.svg").write_text(SQUARE)
    (tmp_path / "package" / "icons.json").write_text(json.dumps(listed))
    return tmp_path / "package"


def drawn(svg, size):
    assert svg == SQUARE
    file = io.BytesIO()
    Image.new("RGB", (size, size), "white").save(file, "png")
    return file.getvalue()


def test_icons_are_pairs_with_classes_and_splits(package, tmp_path):
    write_icons(package, tmp_path / "icons", 16, drawn)
    pairs = load_pairs(tmp_path / "icons")
    assert pairs["caption"] == ["arrow up"] * 2 + ["arrow down"] * 2 + ["cat"]
    assert pairs["label"] == ["Arrows"] * 4 + ["Animals"]
    assert [split == "train" for split in pairs["split"]] == [True, False, True, False, True]
    assert set(pairs["split"]) <= {"train", "val", "test"}
    assert pairs["keywords"][0] == "north|1"
    assert pairs[4]["image"].size == (16, 16)


def test_icons_are_drawn_black_on_white(package, tmp_path):
    pytest.importorskip("resvg_py")
    write_icons(package, tmp_path / "icons", 32)
    picture = Image.open(tmp_path / "icons" / "cat-outline.png").convert("L")
    assert (picture.getpixel((8, 16)), picture.getpixel((24, 16))) == (0, 255)


def test_what_is_no_package_of_icons_is_refused(package, tmp_path, capsys):
    assert main(["data", "icons", str(tmp_path), "--output", str(tmp_path / "x")]) == 1
    assert "is not the unpacked npm package @tabler/icons" in capsys.readouterr().err
    with pytest.raises(ValueError, match="size must be 1 pixel or more, got 0"):
        write_icons(package, tmp_path / "x", 0, drawn)
    (package / "icons" / "filled" / "arrow-up.svg").unlink()
    with pytest.raises(ValueError, match=r"names the icon 'arrow-up' but lacks arrow-up.svg"):
        write_icons(package, tmp_path / "x", 16, drawn)

"""iNaturalist 2018 (Van Horn et al., CVPR 2018): a natural long tail of species."""

from __future__ import annotations

from pathlib import Path

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find, media_folder, read_json

_FILES = {"train": "train2018.json", "val": "val2018.json"}
_PROBED = 20


def read_inaturalist2018(root: Path) -> Collection:
    """Read pictures with their species as `label` and the super-category as `group`.

    The super-category is a kingdom or class, taken from the path.

    Raises:
        FileNotFoundError: train2018.json or val2018.json is not there.
        ValueError: one that does not parse, or an image without annotation.
    """
    splits = {}
    for split, name in _FILES.items():
        file = find(root, [name, f"annotations/{name}"])
        content = read_json(file, ["images", "annotations"])
        species = {row["image_id"]: row["category_id"] for row in content["annotations"]}
        bare = [row["id"] for row in content["images"] if row["id"] not in species]
        if bare:
            raise ValueError(f"{file}: {len(bare)} images have no annotation, such as {bare[0]}")
        names = [row["file_name"] for row in content["images"]]
        base = media_folder(root, [".", "images"], names[:_PROBED])
        splits[split] = [
            Entry(
                str(row["id"]),
                base / row["file_name"],
                (),
                str(species[row["id"]]),
                Path(row["file_name"]).parts[1],
            )
            for row in content["images"]
        ]
    return Collection("inaturalist2018", "competition, train and val", splits)


INATURALIST2018 = Reader(
    name="inaturalist2018",
    about="iNaturalist 2018: 437,513 photos of 8,142 species, 1,000 to 2 each",
    source="github.com/visipedia/inat_comp/tree/master/2018",
    read=read_inaturalist2018,
    figures={
        "train": Figures(437_513, 0, 8_142, 1_000, 2),
        "val": Figures(24_426, 0, 8_142, 3, 3),
    },
)

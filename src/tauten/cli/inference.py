"""``tauten embed | search | export``: the use of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from tauten.cli.imports import quick_imports
from tauten.cli.processes import check_alone


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Add the option of files that the command loads before it begins."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="file with losses, controls or tasks of your own",
    )


def add_embed_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten embed``."""
    add = parser.add_argument
    add("model", help="run folder, folder of a saved model, hf:, clip:, siglip:, st: or open_clip:")
    add("data", nargs="?", help="as of 'tauten train', or a folder of pictures; default: the run's")
    add("--output", type=Path, required=True, help="folder written to; again after a kill: goes on")
    add("--split", choices=("train", "val", "test"), help="default: all of it; the run's own: test")
    add("--image", help="column of the pictures; default: as of the run's data, or image")
    add("--caption", help="column of the captions; default: as of the run's data, or caption")
    add("--label", help="column of the classes; default: label, if there is one")
    add("--batch-size", type=int, default=64, help="pictures or texts at a time (64)")
    add("--block", type=int, default=4096, help="rows written at a time (4096)")
    add("--device", help="cpu, cuda, ...; default: cuda if there is one")
    add("--overwrite", action="store_true", help="replace embeddings of another model or data")
    add_plugin(parser)
    parser.set_defaults(command=_embed)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten export``."""
    add = parser.add_argument
    add("model", help="run folder, or as of 'tauten embed'")
    add(
        "--to",
        default="sentence-transformers",
        metavar="FORMAT",
        help="sentence-transformers: text tower and projection (default); transformers: both "
        "towers as a VisionTextDualEncoderModel; open_clip: of a run that started from a CLIP; "
        "torch-export or onnx: a graph of each side",
    )
    add("--output", type=Path, required=True, help="new folder")
    add("--push-to-hub", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub")
    add("--public", action="store_true", help="a repository that is made for it is public")
    add_plugin(parser)
    parser.set_defaults(command=_export)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten search``."""
    add = parser.add_argument
    add("folder", type=Path, help="that 'tauten embed' wrote")
    add("--text", action="append", default=[], help="what to look for; may be given again")
    add("--image", action="append", default=[], type=Path, help="a picture to look for")
    add("--k", type=int, default=10, help="results of each query (10)")
    add("--among", choices=("images", "texts"), help="what is searched; default: images, if any")
    add("--model", help="where the model is, if it was moved")
    add("--json", action="store_true", help="print JSON instead of a table")
    add_plugin(parser)
    parser.set_defaults(command=_search)


def _embed(options: argparse.Namespace) -> None:
    check_alone("tauten embed")
    with quick_imports():
        from tauten.inference import embed

    embedded = embed(
        options.model,
        options.data,
        options.output,
        split=options.split,
        image=options.image,
        caption=options.caption,
        label=options.label,
        batch_size=options.batch_size,
        block=options.block,
        device=options.device or device(),
        overwrite=options.overwrite,
    )
    print(
        f"{len(embedded.images)} images and {len(embedded.texts)} texts, "
        f"width {embedded.record['dim']}: {options.output}"
    )


def _export(options: argparse.Namespace) -> None:
    with quick_imports():
        from tauten.inference import export

    push = options.push_to_hub
    written = export(
        options.model, options.output, options.to, push=push, private=not options.public
    )
    print(f"{options.to} model, equal embeddings: {written}")
    if push is not None:
        print(f"uploaded: {push}")


def _search(options: argparse.Namespace) -> None:
    import json

    if not options.text and not options.image:
        raise ValueError("nothing to look for: give --text or --image")
    for path in options.image:
        if not path.is_file():
            raise ValueError(f"--image {path}: no such file")
    with quick_imports():
        from tauten.inference import Embedded

    embedded = Embedded(options.folder)
    side = options.among or ("images" if len(embedded.images) else "texts")
    model = embedded.model(options.model)
    queries = [*options.text, *options.image]
    vectors = [row for query in queries for row in model.encode_query(query)]
    hits = embedded.search([row.tolist() for row in vectors], options.k, side)
    if options.json:
        named = [{"query": str(q), "found": rows} for q, rows in zip(queries, hits, strict=True)]
        print(json.dumps(named, ensure_ascii=False, indent=1))
        return
    for query, rows in zip(queries, hits, strict=True):
        print(query)
        for place, row in enumerate(rows, 1):
            texts = row.get("text") or "; ".join(row.get("caption") or [])
            parts = [row.get("image"), row.get("label"), texts]
            print(f"{place:4}  {row['score']:.4f}  " + "  ".join(part for part in parts if part))


def device() -> str:
    """Return "cuda" where there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

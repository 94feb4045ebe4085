"""``tauten data``: known data sets, a look at your own, and icons as a long-tailed set."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the commands of ``tauten data``."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = commands.add_parser("list", help="the data sets that can be read and checked")
    listed.set_defaults(command=_data_list)
    _check_options(
        commands.add_parser("check", help="known data beside the published numbers; your own")
    )
    icons = commands.add_parser(
        "icons", help="make a long-tailed set of pictures and names from the npm package of icons"
    )
    icons.add_argument("package", type=Path, help="the unpacked package @tabler/icons")
    icons.add_argument("--output", type=Path, required=True, help="folder written to")
    icons.add_argument("--size", type=int, default=64, help="side of a picture in pixels (64)")
    icons.set_defaults(command=_data_icons)


def _check_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten data check``."""
    add = parser.add_argument
    add("name", help="one of 'tauten data list', or your own data as of 'tauten train --data'")
    add("--root", type=Path, help="folder of a known data set")
    add("--all", action="store_true", help="of a known one: decode everything, not 64 samples")
    add("--json", type=Path, help="of a known one: write the result to this file too")
    add("--image", default="image", help="of your own: column of the pictures (image)")
    add("--caption", default="caption", help="of your own: column of the captions (caption)")
    add("--label", help="of your own: column of the classes; default: label, if there is one")
    add("--val", help="of your own: validation data; default: a split column, else a share")
    add("--test", help="of your own: test data, likewise")
    add("--views", action="store_true", help="of your own: two views, without captions")
    add("--texts", action="store_true", help="of your own: --image is a column of texts, too")
    add("--allow-truncated", action="store_true", help="of your own: use what is whole in cut tars")
    parser.set_defaults(command=_data_check)


def _data_list(options: argparse.Namespace) -> None:
    from tauten.data.readers import READERS

    width = max(map(len, READERS))
    for name, reader in READERS.items():
        print(f"{name:{width}}  {reader.about}")


def _data_icons(options: argparse.Namespace) -> None:
    from tauten.data.icons import write_icons

    print(f"icons: {write_icons(options.package, options.output, options.size)}")


def _data_check(options: argparse.Namespace) -> None:
    import json

    from tauten.data.readers import READERS, check
    from tauten.files import replace_text

    if options.root is None:
        if options.name in READERS:
            raise ValueError(f"the folder of {options.name} is missing: give --root FOLDER")
        _own_data_check(options)
        return
    report = check(options.name, options.root, everything=options.all)
    print(report.table())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        replace_text(options.json, json.dumps(report.as_dict(), indent=2) + "\n")
    if not report.usable:
        failed = [finding.name for finding in report.findings if finding.verdict == "FAIL"]
        raise ValueError(f"{report.dataset} cannot be used as it is: {', '.join(failed)}")


def _own_data_check(options: argparse.Namespace) -> None:
    from tauten.training import DataConfig
    from tauten.training.stores.data_check import check_data

    if options.all or options.json is not None:
        raise ValueError("--all and --json are of a known data set: give its --root, or leave out")
    if options.texts and options.views:
        raise ValueError("--texts has pairs of texts, and --views pictures alone: give one of both")
    names = ("image", "caption", "label", "val", "test", "texts", "allow_truncated")
    chosen = {name: getattr(options, name) for name in names}
    print(check_data(DataConfig(source=options.name, **chosen), options.views))

"""Files that are written whole, read with care, and folders that one process owns at a time."""

from tauten.files.atomic import (
    is_part,
    make_folder,
    naming,
    remove_parts,
    remove_unused,
    replace_text,
    replacing,
    sync_folder,
    sync_tree,
    write_npz,
)
from tauten.files.home import expanded
from tauten.files.lock import Lock
from tauten.files.plain import (
    error_line,
    need,
    opened_arrays,
    parse_json,
    parse_yaml,
    read_arrays,
    read_json,
    read_lines,
    read_tensors,
    read_text,
    read_yaml,
)
from tauten.files.sums import read_sealed, sealed, sha256
from tauten.files.texts import packed, unpacked

__all__ = [
    "Lock",
    "error_line",
    "expanded",
    "is_part",
    "make_folder",
    "naming",
    "need",
    "opened_arrays",
    "packed",
    "parse_json",
    "parse_yaml",
    "read_arrays",
    "read_json",
    "read_lines",
    "read_sealed",
    "read_tensors",
    "read_text",
    "read_yaml",
    "remove_parts",
    "remove_unused",
    "replace_text",
    "replacing",
    "sealed",
    "sha256",
    "sync_folder",
    "sync_tree",
    "unpacked",
    "write_npz",
]

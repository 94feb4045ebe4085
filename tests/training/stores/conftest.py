"""Shards written for a test, as for those of data."""

from ...data.conftest import emoji, members, shards, write_tar

__all__ = ["emoji", "members", "shards", "write_tar"]

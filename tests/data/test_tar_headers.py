"""The quick reading of a tar's headers against ``tarfile``, which reads any tar."""

import io
import itertools
import random
import tarfile

import pytest

from tauten.data import tar_index
from tauten.data.tar_headers import BLOCK, UnusualTarError, usual_members
from tauten.data.tar_index import member_name, read_members, scan_tar

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def info(name, size=0, **fields):
    made = tarfile.TarInfo(name)
    made.size = size
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def tar_of(members, format, **settings):
    """Return the bytes of a tar of (TarInfo, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, **settings) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def usual(content):
    """Return (name, size, start, content, end) of the files as they are read here."""
    found = usual_members(lambda offset, count: content[offset : offset + count], len(content))
    return [member for member in found if member[0] is not None]


def by_tarfile(content):
    """Return the same of the files as tarfile finds them."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        while (member := tar.next()) is not None:
            if member.isfile():
                found.append(
                    (member.name, member.size, member.offset, member.offset_data, tar.offset)
                )
    return found


def samples(long="", **fields):
    """Two members for each of 5 samples, beside a folder and a link."""
    members = [(info("pictures", type=tarfile.DIRTYPE, mode=0o755), b"")]
    for i in range(5):
        for extension, content in (("jpg", bytes([i]) * (300 * i)), ("txt", b"a cat")):
            name = f"pictures/{long}{i}.{extension}"
            times = {"mtime": 1_700_000_000 + i} | fields
            members.append((info(name, len(content), **times), content))
    members.append((info("link", type=tarfile.SYMTYPE, linkname="pictures"), b""))
    return members


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("long", ["", "y" * 95 + "/" + "z" * 90, "ärger/"])
def test_members_are_those_of_tarfile(format, long):
    content = tar_of(samples(long, uname="someone", uid=1234), FORMATS[format])
    found = usual(content)
    assert found == by_tarfile(content)
    assert len(found) == 10
    assert [content[start : start + size] for _, size, _, start, _ in found[:4]] == [
        b"",
        b"a cat",
        b"\1" * 300,
        b"a cat",
    ]


@pytest.mark.parametrize(
    ("format", "fields"),
    [
        ("pax", {"mtime": 1.5}),
        ("pax", {"pax_headers": {"comment": "of a camera", "path": "p/q/0.jpg"}}),
        ("pax", {"pax_headers": {"mtime": "soon", "LIBARCHIVE.creationtime": "12"}}),
        ("pax", {"uid": 2**40, "gname": "größe"}),
        ("gnu", {"uid": 2**40, "mtime": -5}),
        ("pax", {"name": "x" * 200 + ".jpg"}),
        ("gnu", {"name": "x" * 200 + ".jpg"}),
        ("gnu", {"name": "\udcff.jpg"}),
    ],
)
def test_headers_before_a_member_are_read(format, fields):
    content = tar_of([(info(**{"name": "0.jpg", "size": 3} | fields), b"abc")], FORMATS[format])
    assert usual(content) == by_tarfile(content)
    assert len(usual(content)) == 1


def header(kind=b"0", name=b"0.jpg", size=b"00000000003\0", change=None):
    """Return a header with a right checksum; change is (place, bytes)."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    for place, field in ((100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0")):
        block[place : place + 8] = field
    block[124:136], block[136:148] = size, b"14000000000\0"
    block[156:157], block[257:263] = kind, b"ustar\0"
    if change is not None:
        block[change[0] : change[0] + len(change[1])] = change[1]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


CONTENT, END = b"abc".ljust(BLOCK, b"\0"), bytes(2 * BLOCK)


@pytest.mark.parametrize(
    "block",
    [
        header(),
        header(kind=b"\0"),
        header(size=b"         3  "),
        header(size=b"3".ljust(12, b"\0")),
        header(size=b"\x80" + b"\0" * 10 + b"\3"),
        header(change=(100, b"000644 \0")),
        header(change=(136, b"14000000000 ")),
        header(change=(345, b"folder")),
        header(name=b"./a//b/./0.jpg"),
    ],
)
def test_other_writers(block):
    content = block + CONTENT + END
    assert usual(content) == by_tarfile(content) != []


@pytest.mark.parametrize(
    "block",
    [
        header(kind=b"S"),
        header(kind=b"g"),
        header(kind=b"7"),
        header(kind=b"V"),
        header(kind=b"\0", name=b"folder/"),
        header(size=b"ffffffffffff"),
        header(size=b"\xff" * 12),
        header(change=(100, b"no mode ")),
        header()[:148] + b"000000\0 " + header()[156:],
    ],
)
def test_what_is_unusual_is_left_to_tarfile(block):
    with pytest.raises(UnusualTarError):
        usual(block + CONTENT + END)


@pytest.mark.parametrize(
    "records",
    [
        b"14 path=a.jpg",
        b"99 path=a.jpg\n",
        b"0 path=a.jpg\n",
        b"15 path=\xffa.jpg\n",
        b"20 size=many things\n",
        b"23 hdrcharset=BINARY\n",
        b"25 GNU.sparse.realsize=3\n",
    ],
)
def test_pax_records_that_are_unusual(records):
    first = header(kind=b"x", name=b"pax", size=b"%011o\0" % len(records))
    with pytest.raises(UnusualTarError):
        usual(first + records.ljust(BLOCK, b"\0") + header() + CONTENT + END)


def tars():
    """Tars of each format, with names of each kind."""
    for format, long in itertools.product(FORMATS.values(), ("", "y" * 120 + "/", "ö")):
        yield tar_of(samples(long, mtime=2.5), format)


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The scan of a tar, or its refusal, with and without the quick reading."""

    def scans(content):
        path = tmp_path / "a.tar"
        path.write_bytes(content)
        found = []
        for quick in (True, False):
            with monkeypatch.context() as patch:
                if not quick:
                    patch.setattr(tar_index, "usual_members", _refuse)
                try:
                    found.append(scan_tar(path))
                except (ValueError, tarfile.TarError) as error:
                    found.append(f"{type(error)}: {error}")
        return found

    return scans


def _refuse(*_):
    raise UnusualTarError


def test_an_index_is_that_of_tarfile(both):
    for content in tars():
        quick, slow = both(content)
        assert quick == slow
        assert quick.damage is None
        assert len(quick.bounds) == 6


def test_cut_and_damaged_tars_are_indexed_as_by_tarfile(both):
    draw = random.Random(0)
    damaged = 0
    for content in tars():
        for _ in range(25):
            changed = bytearray(content)
            if draw.random() < 0.3:
                changed = changed[: draw.randrange(len(changed))]
            for _ in range(draw.randrange(1, 4)):
                block = draw.randrange(max(1, len(changed) // BLOCK))
                place = block * BLOCK + draw.choice(
                    (0, 100, 120, 124, 135, 140, 148, 156, 300, 345)
                )
                if place < len(changed):
                    changed[place] = draw.choice((0, 32, 48, 55, 57, 120, 128, 255))
            quick, slow = both(bytes(changed))
            assert quick == slow
            damaged += isinstance(quick, str) or quick.damage is not None
    assert damaged > 30


def test_samples_are_cut_out_of_tars_of_any_kind(monkeypatch):
    for content in tars():
        files = [member for member in by_tarfile(content) if member_name(member[0])]
        start, end = files[2][2], files[3][4]
        part = content[start:end]
        key, members = read_members(part)
        assert key == member_name(files[2][0])[0]
        assert members == {"jpg": b"\1" * 300, "txt": b"a cat"}
        with monkeypatch.context() as patch:
            patch.setattr(tar_index, "usual_members", _refuse)
            assert read_members(part) == (key, members)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b/1.seg.PNG", ("a/b/1", "seg.png")),
        ("./a/1.png", ("a/1", "png")),
        ("././a//b/./1.png", ("a/b/1", "png")),
        ("/a/1.png", ("/a/1", "png")),
        ("/1.png", ("/1", "png")),
        ("../1.png", ("../1", "png")),
        ("a./1.png", ("a./1", "png")),
        ("a/1.png/", ("a/1", "png")),
        ("1.", None),
        (".", None),
        ("..", None),
        ("a/..", None),
        ("./", None),
        ("a/.png", None),
    ],
)
def test_keys_of_names(name, expected):
    assert member_name(name) == expected

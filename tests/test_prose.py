"""House rules for names and docstrings, as far as a machine can check them.

A list of exceptions may only shrink: an entry that is no longer needed fails the test too.
"""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "tauten"
FILES = sorted(SRC.rglob("*.py"))

#: words that begin a riddle instead of a statement
RIDDLES = frozenset(
    re.findall(
        r"\w+",
        "As At By From How It Its Of That Those Under What When Where Whether Which Who Whose Why "
        "With",
    )
)

#: verbs in the base form; another one may be added
VERBS = frozenset(
    re.findall(
        r"\w+",
        """
    Accept Accumulate Add Adjust Advance Aggregate Align Allocate Allow Answer Append Apply
    Ask Assert Assign Attach Average Balance Begin Bind Block Bring Broadcast Build Bump Cache
    Calculate Call Cancel Cast Centre Change Check Choose Claim Classify Clean Clear Clip
    Clone Close Cluster Collate Collect Colour Combine Commit Compare Compile Complete Compose
    Compress Compute Concatenate Configure Connect Construct Consume Continue Convert Copy
    Correct Count Create Crop Cut Deal Decide Declare Decode Decrease Delete Denote Derive
    Describe Detach Detect Discard Dispatch Display Divide Download Draw Drop Dump Duplicate
    Embed Enable Encode End Enqueue Ensure Enter Enumerate Erase Escape Estimate Evaluate
    Exchange Exclude Execute Exit Expand Explain Export Extend Extract Fail Fetch Fill Filter
    Find Finish Fit Flatten Flush Fold Follow Forget Form Format Forward Freeze Gather
    Generate Get Give Go Group Grow Guess Handle Hash Have Hide Hold Identify Ignore Import
    Include Increase Index Infer Initialise Insert Inspect Interpolate Intersect Invert
    Iterate Join Keep Kill Label Launch Leave Let Limit Link List Listen Load Locate Lock Log
    Look Lower Make Map Mark Mask Match Measure Merge Mix Move Multiply Name Normalise Note
    Notice Number Offer Open Order Pack Pad Parse Partition Pass Patch Permute Pick Place Plan
    Plot Pool Pop Post Predict Prefetch Prepare Print Process Produce Project Propagate
    Provide Prune Pull Push Put Query Queue Raise Rank Read Rebuild Receive Record Recover
    Reduce Refuse Register Reject Release Remember Remove Rename Render Reorder Repeat Replace
    Report Request Require Reset Resize Resolve Restore Restrict Resume Retrieve Return
    Reverse Rewrite Rotate Round Route Run Sample Save Say Scale Scan Score Seal Search Seed
    Select Send Serialise Serve Set Shard Share Shift Show Shrink Shuffle Shut Sign Simulate
    Skip Slice Solve Sort Split Stack Start State Step Stop Store Stretch Strip Submit
    Subtract Suggest Sum Summarise Swap Switch Synchronise Take Tell Test Tile Toggle Tokenize
    Track Train Transform Translate Transpose Trim Truncate Try Tune Turn Undo Unfold Unite
    Unpack Update Upload Use Validate Verify Visit Wait Walk Warm Warn Weigh Wrap Write Yield
    Zero
    """,
    )
)

#: words that a class or module does not begin with: statements about it, and commands
NOT_NOUNS = re.compile(
    "(Collects|Computes|Does|Gives|Holds|Keeps|Knows|Loads|Makes|Moves|Reads|Returns|"
    "Says|Something|Stops|Takes|Tells|Trains|Writes|Check|Evaluate|Load|Make|Read|Return|Train|Tune|"
    "Write) "
)

#: names that say nothing of what they hold, and how many files of each room still have them
EMPTY_NAMES = {"found", "kept", "mine", "own", "told"}
FILES_WITH_EMPTY_NAMES = {
    "candidates": 1,
    "data": 1,
    "evaluation": 1,
    "losses": 2,
    "pairwise": 8,
    "relations": 1,
    "training": 1,
}

#: file that a newcomer opens first for the term of a paper, whose first line says so
TERMS = {
    "MM-TS": "controls/mmts.py",
    "shift of MM-TS": "controls/cluster_shift.py",
    "cosine of TS": "controls/schedules.py",
    "MI-MM": "losses/max_margin.py",
    "τ of each sample in iSogCLR": "controls/individual.py",
    "iSogCLR": "losses/isogclr.py",
    "mAP": "evaluation/multi_instance.py",
    "equalized force": "losses/equalized_force.py",
}

LONGEST = 450
LONG_FILES: set[str] = set()


def name_of(path):
    return path.relative_to(SRC).as_posix()


def room_of(path):
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else "."


def decorators(node):
    return " ".join(ast.unparse(decorator) for decorator in node.decorator_list)


def is_recipe(path, node):
    """Return whether the docstring is the title of a recipe."""
    return (
        room_of(path) == "recipes"
        and not node.name.startswith("_")
        and node.returns is not None
        and ast.unparse(node.returns) == "Config"
    )


def documented(tree, *kinds):
    """Yield each node of these kinds that has a docstring, and the docstring."""
    for node in ast.walk(tree):
        if isinstance(node, kinds):
            text = ast.get_docstring(node)
            if text:
                yield node, text


def first_word(text):
    return re.sub(r"\W+$", "", text.split()[0])


def complaints(source, path=SRC / "example.py"):
    """Return what a source breaks of the rules for docstrings, one line each."""
    tree = ast.parse(source)
    broken = []
    for node, text in documented(tree, ast.FunctionDef, ast.AsyncFunctionDef):
        word, where = first_word(text), f"{name_of(path)}:{node.lineno} {node.name}"
        if word in RIDDLES:
            broken.append(f"{where}: begins with {word!r}; say what it returns or does")
        elif re.search(r"\b((cached_)?property|Cached)\b|\.setter", decorators(node)):
            continue
        elif word not in VERBS and not is_recipe(path, node):
            broken.append(
                f"{where}: begins with {word!r}, which is no verb in the base form that VERBS has"
            )
    for node, text in documented(tree, ast.ClassDef, ast.Module):
        word = first_word(text)
        where = f"{name_of(path)}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'module')}"
        if word in RIDDLES or NOT_NOUNS.match(text):
            broken.append(f"{where}: begins with {word!r}; say what it is, by a noun")
    return broken


def undocumented(tree):
    """Return the public functions and classes of a module that have no docstring."""
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and "overload" not in decorators(node)
    ]


def names_given(tree):
    """Yield the names of variables, parameters and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def test_docstrings_say_what_is_done_or_what_it_is():
    broken = [line for path in FILES for line in complaints(path.read_text("utf-8"), path)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Of shards runs of neighbours."""',
        'def f():\n    """Whether it is so."""',
        'def f():\n    """(N,) the ranks."""',
        'def f():\n    """Returns the ranks."""',
        'class C:\n    """What a cell found."""',
        'class C:\n    """Makes a batch."""',
        '"""Who belongs to whom."""',
        '"""Train a configuration."""',
    ],
)
def test_other_docstrings_are_refused(source):
    assert len(complaints(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Return the ranks."""',
        'class C:\n    """A cell."""\n    @property\n    def n(self):\n        """Size."""',
        '"""Trainings of two views."""',
    ],
)
def test_plain_docstrings_are_accepted(source):
    assert not complaints(source)


def test_public_functions_and_classes_have_a_docstring():
    missing = {name_of(path): undocumented(ast.parse(path.read_text("utf-8"))) for path in FILES}
    assert not {path: names for path, names in missing.items() if names}


def test_names_say_what_they_hold():
    count: dict[str, int] = {}
    for path in FILES:
        if EMPTY_NAMES & set(names_given(ast.parse(path.read_text("utf-8")))):
            count[room_of(path)] = count.get(room_of(path), 0) + 1
    more = {
        room: f"{number} files, {FILES_WITH_EMPTY_NAMES.get(room, 0)} allowed"
        for room, number in count.items()
        if number > FILES_WITH_EMPTY_NAMES.get(room, 0)
    }
    assert not more, f"a name out of {sorted(EMPTY_NAMES)} says nothing of what it holds: {more}"


@pytest.mark.parametrize("term", TERMS)
def test_the_first_line_of_a_file_has_the_term_of_its_paper(term):
    assert term in (SRC / TERMS[term]).read_text("utf-8").splitlines()[0]
    assert f"`{TERMS[term]}`" in (SRC.parents[1] / "docs" / "design.md").read_text("utf-8")


def test_files_are_short():
    long = {
        name_of(path): lines
        for path in FILES
        if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert not {name: n for name, n in long.items() if name not in LONG_FILES}
    assert set(long) == LONG_FILES, "a file that has become short leaves LONG_FILES"

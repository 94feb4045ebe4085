"""Draws docs/images/evidence_*.svg from docs/evidence/*.csv.

python benchmarks/evidence_figures.py
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from tauten.outcome import ALL, GROUPS
from tauten.report.theme import MARKERS, TOKENS, figure

DOCS = Path(__file__).resolve().parents[1] / "docs"
COLOR = {"all": "ink", "head": "head", "mid": "mid", "tail": "tail"}
Row = dict[str, str]
#: how the rows of a figure are named
LABELS: dict[str, Callable[[Row], str]] = {
    "probe": lambda row: f"{row['a']} − {row['b']}",
    "search": lambda row: row["a"].removeprefix("composition "),
    "confirm_emoji": lambda row: f"{row['a']} − {row['b']}".replace("composition ", ""),
    "confirm_photos": lambda row: f"{row['a']} − {row['b']}".replace("composition ", ""),
}
#: of sensitivity: label, values in the order of the axis, and which is the centre
FACTORS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "alpha": ("amplitude α", ("0.0", "0.02", "0.06", "0.12"), "0.06"),
    "spread": ("spread of the shift", ("0.0", "0.3", "0.6", "1.0"), "0.6"),
    "periods": ("periods", ("0.5", "1.0", "2.5", "5.0", "10.0"), "5.0"),
    "scale": ("scale of class size", ("linear", "sqrt", "log"), "linear"),
    "clusters": ("sizes of", ("10", "30", "98", "300", "classes"), "classes"),
    "batch": ("batch size", ("64", "128", "256", "512"), "256"),
}


def main() -> None:
    for name in ("frozen", "end_to_end"):
        if rows := read(f"compare_emoji_{name}"):
            rows = [row for row in rows if row["b"].startswith("matched ")]
            save(forest(rows, (ALL, *GROUPS), lambda row: row["a"]), name)
    if rows := read("sensitivity"):
        save(curves(rows), "sensitivity")
    for name, label in LABELS.items():
        if rows := read(name):
            save(forest(rows, ("all", "tail"), label), name)


def read(name: str) -> list[Row]:
    """The differences of a study; none where it has not been run."""
    path = DOCS / "evidence" / f"{name}_differences.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def points(row: Row, name: str) -> float:
    """A column in points."""
    return 100 * float(row[name])


def forest(rows: Sequence[Row], groups: Sequence[str], name: Callable[[Row], str]) -> Figure:
    """Differences by group with simultaneous intervals, coloured where these exclude 0."""
    names = list(dict.fromkeys(name(row) for row in rows))
    with figure((2.6 + 1.9 * len(groups), 0.8 + 0.19 * len(names))) as drawing:
        panels = drawing.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, group in zip(panels, groups, strict=True):
            for row in (row for row in rows if row["group"] == group):
                at = names.index(name(row))
                color = TOKENS["muted" if row["verdict"] == "same" else "run2"]
                ends = [points(row, "corrected_low"), points(row, "corrected_high")]
                axes.plot(ends, [at, at], color=color, linewidth=1.2)
                axes.plot([points(row, "value")], [at], "o", color=color, markersize=3.5)
            axes.axvline(0, color=TOKENS["ink"], linewidth=0.9)
            axes.set_title("all queries" if group == "all" else group, fontsize=9)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.grid(visible=False, axis="y")
        drawing.supxlabel("difference in mean recall, points", fontsize=8.5)
        return drawing


def curves(rows: Sequence[Row]) -> Figure:
    """Differences to the constant of the same mean, over each factor."""
    with figure((8.2, 4.6)) as drawing:
        panels = drawing.subplots(2, 3, sharey=True).flatten()
        for axes, factor in zip(panels, FACTORS, strict=True):
            label, values, _ = FACTORS[factor]
            for k, group in enumerate(("all", "tail")):
                found = [_of(rows, factor, value, group) for value in values]
                at = [i + 0.12 * k for i in range(len(values))]
                middle = [points(row, "value") for row in found]
                ends = [
                    [points(row, f"corrected_{end}") for row in found] for end in ("low", "high")
                ]
                color = TOKENS[COLOR[group]]
                axes.vlines(at, *ends, color=color, linewidth=1.2)
                axes.plot(at, middle, MARKERS[k], ls="-", color=color, markersize=4, label=group)
            axes.axhline(0, color=TOKENS["muted"], linewidth=0.9)
            axes.set_xticks(range(len(values)), values)
            axes.set_xlabel(label)
        panels[0].legend(loc="lower left")
        drawing.supylabel("difference to the constant, points", fontsize=8.5)
        return drawing


def _of(rows: Sequence[Row], factor: str, value: str, group: str) -> Row:
    name = "mmts centre" if value == FACTORS[factor][2] else f"mmts {factor}={value}"
    return next(row for row in rows if row["a"] == name and row["group"] == group)


def save(drawing: Figure, name: str) -> None:
    """As svg in the light colours of the reports."""
    css = (files("tauten.report") / "templates" / "style.css").read_text(encoding="utf-8")
    colors: dict[str, str] = {}
    for token, value in re.findall(r"--(\w+): (#[0-9a-f]{6});", css):
        colors.setdefault(token, value)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None}, facecolor=TOKENS["paper"])
    text = buffer.getvalue()
    for token, stand_in in TOKENS.items():
        text = text.replace(stand_in, colors.get(token, stand_in))
    path = DOCS / "images" / f"evidence_{name}.svg"
    path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()

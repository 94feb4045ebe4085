"""Draws docs/images/evidence_*.svg from docs/evidence/*.csv."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
from evidence_forces import forces
from evidence_tables import PARTED, STUDIES, Row, read
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tauten.outcome import ALL, GROUPS
from tauten.report.theme import MARKERS, TOKENS, figure

DOCS = Path(__file__).resolve().parents[1] / "docs"
METRICS = {"mean_recall": "pairs: mean recall", "class_map": "classes: class mAP"}
#: rules of the trade-off beside the constants
RULES = ("learnable", "MM-TS", "MM-TS reversed", "TS", "iSogCLR", "TempNet", "FastCLIP")
COLORS = ("run2", "run3", "run4", "run5", "run6", "good", "bad")
#: for rules beyond the markers of reports
MORE_MARKERS = ("X", "*")
#: constants whose τ is written beside their point
TOLD = ("0.02", "0.03", "0.07", "0.085", "0.1", "0.18", "0.4")
PARTS = {
    "MM-TS 0.089 to 0.485 plain": "true sizes",
    "MM-TS reversed 0.089 to 0.485 plain": "reversed",
    "MM-TS 0.089 to 0.485 equalized": "shape only",
    "part weight only": "weight only",
    "part shuffled": "exchanged, classes",
    "part noise": "exchanged, samples",
}


def main() -> None:
    """Draw the figures of the page."""
    for study in STUDIES:
        save(trade_off(read(f"{study}_search")), f"{study}_trade_off")
        save(rules(read(f"{study}_rules_differences")), f"{study}_rules")
    for study in PARTED:
        save(forest(read(f"{study}_parts_differences"), PARTS), f"{study}_parts")
    save(forces(), "forces")


def trade_off(rows: Sequence[Row]) -> Figure:
    """Instances against classes, of all that was tried, by group; constants are joined."""
    tested = [row for row in rows if row["split"] == "test"]
    with figure((8.4, 6.4)) as drawing:
        panels = drawing.subplots(2, 2).flatten()
        for axes, group in zip(panels, (ALL, *GROUPS), strict=True):
            own = [row for row in tested if row["group"] == group]
            _curve(axes, [row for row in own if row["rule"] == "constant"])
            for k, rule in enumerate(RULES):
                found = [place(row) for row in own if row["rule"] == rule]
                style = {"color": TOKENS[COLORS[k]], "markersize": 5}
                marker = (*MARKERS[1:], *MORE_MARKERS)[k]
                if found:
                    axes.plot(*zip(*found, strict=True), marker, ls="", label=rule, **style)
            axes.set_title("all queries" if group == ALL else group, fontsize=9)
        drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        drawing.supxlabel("pairs: mean recall, percent", fontsize=8.5)
        drawing.supylabel("classes: class mAP, percent", fontsize=8.5)
        return drawing


def place(row: Row) -> tuple[float, float]:
    """Return mean recall and class mAP in percent."""
    return 100 * float(row["mean_recall"]), 100 * float(row["class_map"])


def _curve(axes: Axes, rows: Sequence[Row]) -> None:
    rows = sorted(rows, key=lambda row: float(row["setting"]))
    found = [place(row) for row in rows]
    axes.plot(
        *zip(*found, strict=True), "o-", color=TOKENS["ink"], markersize=3.5, label="constant"
    )
    for row, at in zip(rows, found, strict=True):
        if row["setting"] in TOLD:
            axes.annotate(row["setting"], at, (4, 3), textcoords="offset points", fontsize=7)


def rules(rows: Sequence[Row]) -> Figure:
    """Rules chosen for a target minus the best constant for it."""
    targets = {"instances": "for pairs", "classes": "for classes", "both": "for both"}
    own: dict[str, str] = {}
    for row in rows:
        own.setdefault(row["family"], row["b"])

    def name(row: Row) -> str:
        rule = row["a"][: re.search(r" [\d(ρf]", row["a"]).start()]  # type: ignore[union-attr]
        return f"{rule}, {targets[row['family']]} − {row['b'].removeprefix('constant ')}"

    kept = [row | {"a": name(row)} for row in rows if row["b"] == own[row["family"]]]
    return forest(kept, {row["a"]: row["a"] for row in kept})


def forest(rows: Sequence[Row], names: Mapping[str, str]) -> Figure:
    """Differences of both metrics by group with simultaneous intervals, coloured off 0."""
    names = {key: name for key, name in names.items() if any(row["a"] == key for row in rows)}
    with figure((9.0, 1.5 + 0.36 * len(names))) as drawing:
        panels = drawing.subplots(len(METRICS), 4, sharey=True, sharex="row")
        for line, metric in zip(panels, METRICS, strict=True):
            for axes, group in zip(line, (ALL, *GROUPS), strict=True):
                own = [r for r in rows if (r["metric"], r["group"]) == (metric, group)]
                _forest(axes, own, list(names))
                axes.set_yticks(range(len(names)), names.values())
                axes.set_title("all queries" if group == ALL else group, fontsize=8.5)
            line[0].set_ylabel(METRICS[metric], fontsize=8)
        drawing.supxlabel("difference in points, with simultaneous intervals", fontsize=8.5)
        return drawing


def _forest(axes: Axes, rows: Sequence[Row], keys: Sequence[str]) -> None:
    for row in (row for row in rows if row["a"] in keys):
        at = keys.index(row["a"])
        color = TOKENS["run2" if row["verdict"] in ("better", "worse") else "muted"]
        low, middle, high = (
            100 * float(row[name]) for name in ("corrected_low", "value", "corrected_high")
        )
        axes.plot([low, high], [at, at], color=color, linewidth=1.3)
        axes.plot([middle], [at], "o", color=color, markersize=3.5)
    axes.axvline(0, color=TOKENS["ink"], linewidth=0.9)
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def save(drawing: Figure, name: str) -> None:
    """Write as svg in the light colours of the reports."""
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

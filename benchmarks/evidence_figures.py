"""Draws docs/images/evidence_*.svg from docs/evidence/*.csv."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
from evidence_forces import forces
from evidence_read import (
    CLASSES,
    NEAREST,
    NEIGHBOURS,
    PARTED,
    PARTS,
    RECALL,
    SETS,
    STUDIES,
    TARGETS,
    WORDS,
    Row,
    metrics_of,
    own_family,
    read,
    rule_of,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tauten.outcome import ALL, GROUPS
from tauten.report.theme import MARKERS, TOKENS, figure

#: rule, setting, and where it stands
Point = tuple[str, str, tuple[float, float]]
DOCS = Path(__file__).resolve().parents[1] / "docs"
METRICS = {
    RECALL: "pairs: mean recall",
    CLASSES: "classes: class mAP",
    NEAREST: "classes: kNN@1",
    NEIGHBOURS: "classes: kNN@10",
}
#: rules of the trade-off beside the constants
RULES = ("learnable", "MM-TS", "MM-TS reversed", "TS", "iSogCLR", "TempNet", "FastCLIP")
COLORS = ("run2", "run3", "run4", "run5", "run6", "good", "bad")
#: for rules beyond the markers of reports
MORE_MARKERS = ("X", "*")
#: constants whose τ is written beside their point
TOLD = ("0.02", "0.03", "0.07", "0.085", "0.1", "0.18", "0.4")


def main() -> None:
    """Draw the figures of the pages."""
    for study in STUDIES:
        save(trade_off(panels(study), axes_of(study)), f"{study}_trade_off")
        save(rules(read(f"{study}_rules_differences")), f"{study}_rules")
    for study in PARTED:
        save(forest(read(f"{study}_parts_differences"), PARTS), f"{study}_parts")
    save(trade_off(on_all_sets(), ("", "")), "sets_trade_off")
    save(rules_on_all_sets(), "sets_rules")
    save(forces(), "forces")


def axes_of(study: str) -> tuple[str, str]:
    """Return what stands along and what up, in a trade-off."""
    first, last = metrics_of(study)
    if first == RECALL:
        return f"{METRICS[first]}, percent", f"{METRICS[last]}, percent"
    return f"head: {WORDS[last]}, percent", f"mid and tail: {WORDS[last]}, percent"


def panels(study: str) -> dict[str, list[Point]]:
    """Return by title what each training of a search found: pairs against classes by group.

    Where there are no pairs, it is the head against the others.
    """
    first, last = metrics_of(study)
    rows = [row for row in read(f"{study}_search") if row["split"] == "test"]
    found: dict[str, list[Point]] = {}
    for row in rows:
        at = 100 * float(row[first]), 100 * float(row[last])
        title = "all queries" if row["group"] == ALL else row["group"]
        found.setdefault(title, []).append((row["rule"], row["setting"], at))
    if first == RECALL:
        return found
    head, *others = ({(r, s): at[1] for r, s, at in found[group]} for group in GROUPS)
    return {
        f"head and {group}": [(*key, (head[key], own[key])) for key in own]
        for group, own in zip(GROUPS[1:], others, strict=True)
    }


def on_all_sets() -> dict[str, list[Point]]:
    """Return the trade-off of each set: of all queries, or of the head and the tail."""
    found = {}
    for study in STUDIES:
        own = panels(study)
        title = "all queries" if "all queries" in own else "head and tail"
        axes = "pairs, classes" if title == "all queries" else "head, tail"
        found[f"{SETS[study]} ({axes})"] = own[title]
    return found


def trade_off(points: Mapping[str, Sequence[Point]], axes_told: tuple[str, str]) -> Figure:
    """What each training found, a panel for each title; constants are joined."""
    with figure((8.4, 6.4 if len(points) > 2 else 3.8)) as drawing:
        drawn = drawing.subplots((len(points) + 1) // 2, 2).flatten()
        for axes in drawn[len(points) :]:
            axes.set_visible(False)
        for axes, (title, own) in zip(drawn[: len(points)], points.items(), strict=True):
            _curve(axes, [point for point in own if point[0] == "constant"])
            for k, rule in enumerate(RULES):
                found = [at for name, _, at in own if name == rule]
                style = {"color": TOKENS[COLORS[k]], "markersize": 5}
                marker = (*MARKERS[1:], *MORE_MARKERS)[k]
                if found:
                    axes.plot(*zip(*found, strict=True), marker, ls="", label=rule, **style)
            axes.set_title(title, fontsize=9)
        drawing.legend(*drawn[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        drawing.supxlabel(axes_told[0], fontsize=8.5)
        drawing.supylabel(axes_told[1], fontsize=8.5)
        return drawing


def _curve(axes: Axes, points: Sequence[Point]) -> None:
    points = sorted(points, key=lambda point: float(point[1]))
    found = [at for _, _, at in points]
    axes.plot(
        *zip(*found, strict=True), "o-", color=TOKENS["ink"], markersize=3.5, label="constant"
    )
    for _, setting, at in points:
        if setting in TOLD:
            axes.annotate(setting, at, (4, 3), textcoords="offset points", fontsize=7)


def rules_on_all_sets() -> Figure:
    """Rules minus the best constant, each chosen for what is compared, a panel for each set."""
    kinds = {"instances": "chosen for pairs, pairs", "classes": "chosen for classes, classes"}
    with figure((9.0, 5.2)) as drawing:
        lines = drawing.subplots(2, len(STUDIES), sharey=True, sharex="col")
        for line, (target, told) in zip(lines, kinds.items(), strict=True):
            for axes, study in zip(line, STUDIES, strict=True):
                metric = metrics_of(study)[target == "classes"]
                own = [
                    row | {"a": rule_of(row["a"])}
                    for row in own_family(study, target, metric)
                    if row["group"] == ALL
                ]
                axes.set_visible(bool(own))
                _forest(axes, own, RULES)
                axes.set_yticks(range(len(RULES)), RULES)
                axes.set_title(SETS[study], fontsize=8.5)
            line[0].set_ylabel(told, fontsize=8)
        drawing.supxlabel("difference in points, with simultaneous intervals", fontsize=8.5)
        return drawing


def rules(rows: Sequence[Row]) -> Figure:
    """Rules chosen for a target minus the best constant for it."""
    own: dict[str, str] = {}
    for row in rows:
        own.setdefault(row["family"], row["b"])

    def name(row: Row) -> str:
        minus = row["b"].removeprefix("constant ")
        return f"{rule_of(row['a'])}, {TARGETS[row['family']]} − {minus}"

    kept = [row | {"a": name(row)} for row in rows if row["b"] == own[row["family"]]]
    return forest(kept, {row["a"]: row["a"] for row in kept})


def forest(rows: Sequence[Row], names: Mapping[str, str]) -> Figure:
    """Differences of both metrics by group with simultaneous intervals, coloured off 0."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    names = {key: name for key, name in names.items() if any(row["a"] == key for row in rows)}
    with figure((9.0, 1.5 + 0.36 * len(names))) as drawing:
        panels = drawing.subplots(len(metrics), 4, sharey=True, sharex="row")
        for line, metric in zip(panels, metrics, strict=True):
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

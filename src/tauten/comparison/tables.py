"""The comparison as a table, in the terminal and in markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tauten.comparison.contrasts import Contrast, Verdict
from tauten.comparison.summary import Level, Summary, Variant
from tauten.outcome import ALL

MARKS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "same": "", "one seed": ""}
MINUS = "−"
_LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    MINUS: "$-$",
    "–": "--",
}


def percent(value: float) -> str:
    """Format a fraction in percent."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Format a difference of fractions in points, with its sign."""
    text = f"{abs(100 * value):.1f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


def p_value(value: float) -> str:
    """Format a p to two digits."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def effect(contrast: Contrast) -> str:
    """Return Cohen's d over seeds."""
    if contrast.effect is None:
        return "–"
    text = f"{abs(contrast.effect):.1f}"
    return text if float(text) == 0 else f"{'+' if contrast.effect > 0 else MINUS}{text}"


def milliseconds(variant: Variant) -> str:
    """Format the time of a step."""
    return "–" if variant.seconds_per_step is None else f"{1000 * variant.seconds_per_step:.1f}"


def mebibytes(variant: Variant) -> str:
    """Format the memory of a step."""
    return "–" if variant.memory_mib is None else f"{variant.memory_mib:.1f}"


def header(summary: Summary) -> list[str]:
    """Return columns of the table."""
    groups = [group for group in summary.groups if group != ALL]
    return [
        "control",
        summary.metric,
        "difference",
        "p",
        "d",
        *groups,
        "ms/step",
        "MiB",
    ]


def rows(summary: Summary) -> list[list[str]]:
    """Return a row for each variant: overall, its difference with the simultaneous interval,
    groups.
    """
    groups = [group for group in summary.groups if group != ALL]
    means = {(v.name, group): mean for v in summary.variants for group, mean in v.means.items()}
    level = Level(summary.metric, means, summary.to_baseline)
    return [
        [*_row(level, variant.name, groups), milliseconds(variant), mebibytes(variant)]
        for variant in summary.variants
    ]


def _row(level: Level, name: str, groups: Sequence[str]) -> list[str]:
    mean, overall = level.means[name, ALL], level.difference(name, ALL)
    row = [name, f"{percent(mean.value)} [{percent(mean.low)}, {percent(mean.high)}]"]
    row += ["baseline", "", ""] if overall is None else _difference(overall)
    for group in groups:
        difference = level.difference(name, group)
        mark = "" if difference is None else MARKS[difference.verdict]
        shown = f" ({points(difference.value)}{mark})" if difference is not None else ""
        row.append(f"{percent(level.means[name, group].value)}{shown}")
    return row


def _difference(contrast: Contrast) -> list[str]:
    ends = f"[{points(contrast.corrected_low)}, {points(contrast.corrected_high)}]"
    value = f"{points(contrast.value)} {ends}{MARKS[contrast.verdict]}"
    return [value, p_value(contrast.corrected_p), effect(contrast)]


def parts(summary: Summary) -> list[list[str]]:
    """Return a row for each difference of a schedule to what takes it apart, over all queries."""
    return [[f"{c.a} {MINUS} {c.b}", *_difference(c)] for c in summary.to_parts if c.group == ALL]


def notes(summary: Summary) -> list[str]:
    """Return the notes that a reader needs to read the table."""
    grid = summary.grid
    seeds = max(len(variant.seeds) for variant in summary.variants)
    number = len(summary.to_baseline) + len(summary.to_parts)
    over = "seeds and queries" if seeds > 1 else "queries alone"
    lines = [
        f"{summary.metric} on the test split in percent, {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}, with 95 % intervals over {over}.",
        f"Differences to {grid.baseline} with the same kind of setting, in points; their intervals "
        f"and p hold for all {number} comparisons at once (max-T, {summary.bootstrap} replicates). "
        "▲ and ▼ mark those whose interval excludes 0.",
        "d: the difference over the standard deviation over seeds (Cohen).",
    ]
    if summary.beside is not None:
        count = len(summary.beside.to_baseline)
        lines.append(
            f"{summary.beside.metric} beside it, its intervals and p for its own {count} "
            "comparisons. class_map: mean average precision of candidates of the query's class, "
            "over queries that have another of their class."
        )
    if any(c.seeds < 2 for c in (*summary.to_baseline, *summary.to_parts)):
        lines.append(
            "From one seed there is no verdict: the interval is over queries alone and says "
            "nothing of another training. Add seeds, --seeds 5."
        )
    if grid.trials > 1:
        lines.append(
            f"tuned: the best on the validation split with seed {grid.seeds[0]} of {grid.tuning}; "
            "parts of a schedule take its settings."
        )
    missing = [
        f"{variant.name} {len(variant.seeds)}"
        for variant in summary.variants
        if len(variant.seeds) < len(grid.seeds)
    ]
    if missing:
        lines.append(f"Finished of {len(grid.seeds)} seeds: {', '.join(missing)}.")
    if summary.trained.failures:
        lines.append(f"{len(summary.trained.failures)} failed, see failed.json.")
    return lines


def beside(summary: Summary) -> list[list[str]]:
    """Return headings, and a row for each variant, of the metric beside the one compared."""
    level = summary.beside
    if level is None:
        return []
    of_level = {group for _, group in level.means}
    groups = [group for group in summary.groups if group in of_level and group != ALL]
    head = ["control", level.metric, "difference", "p", "d", *groups]
    return [head, *(_row(level, variant.name, groups) for variant in summary.variants)]


def blocks(summary: Summary) -> list[list[list[str]]]:
    """Return all tables, each with its headings first."""
    tables = [[header(summary), *rows(summary)], beside(summary)]
    if summary.to_parts:
        tables.append([["part", "difference", "p", "d"], *parts(summary)])
    return [table for table in tables if table]


def text(summary: Summary) -> str:
    """Format for the terminal."""
    aligned = "\n\n".join(_aligned(table) for table in blocks(summary))
    lines = ["", *aligned.splitlines(), "", *notes(summary)]
    for failure in summary.trained.failures:
        lines.append(f"failed: {failure.task}: {failure.error}")
    return "\n".join(lines)


def markdown(summary: Summary) -> str:
    """Format for a document."""
    said = [f"* {note}" for note in notes(summary)]
    said += [f"* failed: `{f.task}`: {f.error}" for f in summary.trained.failures]
    return "\n\n".join([*map(_pipes, blocks(summary)), "\n".join(said)]) + "\n"


def latex(summary: Summary) -> str:
    """Format for a paper, with booktabs; what a reader must know stands in comments."""
    said = "".join(f"% {note}\n" for note in notes(summary))
    return said + "\n".join(_tabular(table) for table in blocks(summary))


def _tabular(table: Sequence[Sequence[str]]) -> str:
    head, *body = (
        " & ".join("".join(_LATEX.get(sign, sign) for sign in cell) for cell in row) + r" \\"
        for row in table
    )
    columns = "l" + "r" * (len(table[0]) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _pipes(table: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])

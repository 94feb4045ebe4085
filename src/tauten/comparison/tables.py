"""The comparison as a table, in the terminal and in markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tauten.comparison.contrasts import Contrast, Verdict
from tauten.comparison.summary import Summary, Variant
from tauten.outcome import ALL

MARKS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "same": "", "one seed": ""}
MINUS = "−"


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
    found = []
    for variant in summary.variants:
        mean, overall = variant.means[ALL], summary.difference(variant, ALL)
        row = [variant.name, f"{percent(mean.value)} [{percent(mean.low)}, {percent(mean.high)}]"]
        row += ["baseline", "", ""] if overall is None else _difference(overall)
        for group in (g for g in summary.groups if g != ALL):
            own = summary.difference(variant, group)
            mark = "" if own is None else MARKS[own.verdict]
            shown = f" ({points(own.value)}{mark})" if own is not None else ""
            row.append(f"{percent(variant.means[group].value)}{shown}")
        found.append([*row, milliseconds(variant), mebibytes(variant)])
    return found


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
    found = [
        f"{summary.metric} on the test split in percent, {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}, with 95 % intervals over {over}.",
        f"Differences to {grid.baseline} with the same kind of setting, in points; their intervals "
        f"and p hold for all {number} comparisons at once (max-T, {summary.bootstrap} replicates). "
        "▲ and ▼ mark those whose interval excludes 0.",
        "d: the difference over the standard deviation over seeds (Cohen).",
    ]
    if any(c.seeds < 2 for c in (*summary.to_baseline, *summary.to_parts)):
        found.append(
            "From one seed there is no verdict: the interval is over queries alone and says "
            "nothing of another training. Add seeds, --seeds 5."
        )
    if grid.trials > 1:
        found.append(
            f"tuned: the best on the validation split with seed {grid.seeds[0]} of {grid.tuning}; "
            "parts of a schedule take its settings."
        )
    missing = [
        f"{variant.name} {len(variant.seeds)}"
        for variant in summary.variants
        if len(variant.seeds) < len(grid.seeds)
    ]
    if missing:
        found.append(f"Finished of {len(grid.seeds)} seeds: {', '.join(missing)}.")
    if summary.trained.failures:
        found.append(f"{len(summary.trained.failures)} failed, see failed.json.")
    return found


def text(summary: Summary) -> str:
    """Format for the terminal."""
    blocks = [_aligned([header(summary), *rows(summary)])]
    if summary.to_parts:
        blocks.append(_aligned([["part", "difference", "p", "d"], *parts(summary)]))
    lines = ["", *"\n\n".join(blocks).splitlines(), "", *notes(summary)]
    for failure in summary.trained.failures:
        lines.append(f"failed: {failure.task}: {failure.error}")
    return "\n".join(lines)


def markdown(summary: Summary) -> str:
    """Format for a document."""
    blocks = [_pipes([header(summary), *rows(summary)])]
    if summary.to_parts:
        blocks.append(_pipes([["part", "difference", "p", "d"], *parts(summary)]))
    said = [f"* {note}" for note in notes(summary)]
    said += [f"* failed: `{f.task}`: {f.error}" for f in summary.trained.failures]
    return "\n\n".join([*blocks, "\n".join(said)]) + "\n"


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

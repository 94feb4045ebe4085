"""The page of what ``gpu.py`` found: tables for docs/scaling.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

NOTHING = (
    "**Nothing here was measured on a GPU.** Every part ran in small on a CPU, kernels "
    "interpreted, to show that it runs; the times say nothing."
)


def page(found: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    device, parts = found["device"], found["parts"]
    lines = [
        f"## Measured on {device['name']}" if found["on_gpu"] else "## In small, on a CPU",
        "",
        f"`python benchmarks/gpu.py`: {device['name']}, torch {device['torch']}, triton "
        f"{device['triton']}, Python {device['python']}; {found['seconds']:.0f} s.",
    ]
    if not found["on_gpu"]:
        lines += ["", NOTHING]
    for name, write in TABLES.items():
        if name in parts:
            lines += ["", *write(parts[name])]
    if found["left_out"]:
        lines += ["", "Left out:", "", *(f"* {one}" for one in found["left_out"])]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]


def ms(cell: dict[str, float] | None) -> str:
    return "–" if cell is None else f"{cell['ms']:.2f}"


def right(lines: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            *(one["loss"], one["batch"], one["type"], one["with"], f"{one['value']:.1e}"),
            *(f"{one['gradient']:.1e}", "yes" if one["same_bits"] else "no"),
        )
        for one in lines
    ]
    head = ["loss", "B", "type", "with", "value", "gradient / largest", "same bits twice"]
    return ["Differences from the dense loss in float64:", "", *table(head, rows)]


def times(lines: list[dict[str, Any]]) -> list[str]:
    text = []
    for loss in dict.fromkeys(one["loss"] for one in lines):
        of_loss = [one for one in lines if one["loss"] == loss]
        names = list(dict.fromkeys(name for one in of_loss for name in one["found"]))
        rows = []
        for one in of_loss:
            cells = [one["found"].get(name) for name in names]
            floor = one["found"]["four products"]["ms"]
            ours = [
                one["found"][name]["ms"]
                for name in ("auto", one["fastest"])
                if name in one["found"]
            ]
            last = [one["fastest"] or "–", f"{one['auto']:.2f}" if "auto" in one else "–"]
            rows.append(
                (
                    *(one["batch"], one["type"], *map(ms, cells), *last),
                    f"{min(ours) / floor:.2f}" if ours else "–",
                    f"{one['tflops']:.1f}",
                )
            )
        head = ["B", "type", *names, "fastest of ours", "auto / it", "it / products", "TFLOP/s"]
        text += [f"{loss}, forward and backward, d = {of_loss[0]['dim']}, ms:", ""]
        text += [*table(head, rows), "", "Peak MiB above the embeddings:", ""]
        peaks = [
            (
                *(one["batch"], one["type"]),
                *(f"{one['found'][n]['mib']:.0f}" if n in one["found"] else "–" for n in names),
            )
            for one in of_loss
        ]
        text += [*table(["B", "type", *names], peaks), ""]
    return text[:-1]


def graphs(lines: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            *(one["loss"], one["batch"], f"{one['calls_ms']:.3f}"),
            "–" if one["graph_ms"] is None else f"{one['graph_ms']:.3f}",
            f"{one['difference']:.1e}" if "difference" in one else "–",
            one["reason"] or "captured",
        )
        for one in lines
    ]
    head = ["loss", "B", "calls, ms", "graph, ms", "largest difference", ""]
    return ["Losses in a CUDA graph, float32:", "", *table(head, rows)]


def steps(lines: list[dict[str, Any]]) -> list[str]:
    rows = [
        (one["step"], "–", "–", "–", one["reason"])
        if one["ms"] is None
        else (
            *(one["step"], f"{one['ms']:.1f}", f"{one['ratio']:.3f}" if "ratio" in one else "–"),
            *(f"{one['mib']:.0f}", f"{one.get('more_mib', 0.0):+.0f} MiB"),
        )
        for one in lines
    ]
    head = ["loss", "ms", "/ without us", "peak MiB", ""]
    said = f"A training step of ViT-B/16 and a text tower of 12 layers, B = {lines[0]['batch']}:"
    return [said, "", *table(head, rows)]


def trainings(lines: list[dict[str, Any]]) -> list[str]:
    rows = [
        (one["precision"], "–", "–", "–", one["reason"])
        if one["score"] is None
        else (
            *(one["precision"], f"{100 * one['score']:.1f}", f"{one['seconds']:.1f}"),
            *(f"{one['left_out']} of {one['steps']}", ""),
        )
        for one in lines
    ]
    head = ["precision", "mean recall, %", "s", "steps left out", ""]
    return ["`emoji_infonce_mmts` in three precisions:", "", *table(head, rows)]


def tests(lines: list[dict[str, Any]]) -> list[str]:
    text = []
    for one in lines:
        text += [f"`pytest -m gpu`: {one['said']}", *(f"* {name}" for name in one["failed"])]
    return text


TABLES = {
    "right": right,
    "times": times,
    "steps": steps,
    "trainings": trainings,
    "graphs": graphs,
    "tests": tests,
}

"""Writes the tables that have a column for each set."""

from __future__ import annotations

from evidence_read import (
    PARTED,
    PARTS,
    SETS,
    STUDIES,
    difference,
    metrics_of,
    own_family,
    pipes,
    read,
    rule_of,
)

from tauten.outcome import ALL


def on_sets(target: str, place: int, group: str = ALL) -> str:
    """Rules minus the best constant, each chosen for a target, a column for each set.

    Args:
        target: that settings are chosen for.
        place: of the metric among the two that are compared.
        group: of queries.
    """
    found: dict[str, dict[str, str]] = {}
    constants = {}
    for study in STUDIES:
        for row in own_family(study, target, metrics_of(study)[place]):
            constants[study] = row["b"]
            if row["group"] == group:
                found.setdefault(rule_of(row["a"]), {})[study] = difference(row)
    title = [f"{SETS[study]} − {tau.removeprefix('constant ')}" for study, tau in constants.items()]
    body = [[rule, *(of.get(study, "–") for study in constants)] for rule, of in found.items()]
    return pipes(["chosen on each set", *title], body)


def parts_on_sets(place: int, group: str = ALL) -> str:
    """The parts of a wide shift minus its mean, a column for each set."""
    found: dict[str, dict[str, str]] = {name: {} for name in PARTS.values()}
    for study in PARTED:
        for row in read(f"{study}_parts_differences"):
            if (row["metric"], row["group"]) == (metrics_of(study)[place], group):
                found[PARTS[row["a"]]][study] = difference(row)
    kept = [study for study in PARTED if any(study in of for of in found.values())]
    body = [[name, *(of.get(study, "–") for study in kept)] for name, of in found.items()]
    return pipes(["minus the constant of its mean", *(SETS[study] for study in kept)], body)

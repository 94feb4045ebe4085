"""Findings of a check of a data set on disk, beside the published numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Value = int | str | None


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    Attributes:
        name: what was looked at: "test images", "train captions", "readable images".
        found: the count, name or state found; None: nothing is there.
        expected: the published figure; None: none is published.
        ok: whether it is as it should be.
        remedy: what to do if it is not, and where to get what is missing.
        fatal: whether the data cannot be used while this is not ok. A usual difference, such as
            pictures whose links died, is not fatal.
    """

    name: str
    found: Value
    expected: Value = None
    ok: bool = True
    remedy: str = ""
    fatal: bool = True

    @property
    def verdict(self) -> str:
        """ "ok"; "differs" where it is not but the data can be used; else "FAIL"."""
        return "ok" if self.ok else "FAIL" if self.fatal else "differs"


def equal(
    name: str, found: Value, expected: Value, remedy: str = "", *, fatal: bool = True
) -> Finding:
    """Return a finding that is ok where `found` is `expected`,
    or where nothing is expected (None).
    """
    ok = expected is None or found == expected
    return Finding(name, found, expected, ok, remedy, fatal)


@dataclass(frozen=True)
class Report:
    """Findings of a check of one data set.

    Attributes:
        dataset: its name in ``tauten data list``.
        root: the folder that was looked at.
        variant: family of splits or annotations ("Karpathy", "SDCLR, seed 0").
        findings: one line each.
        fingerprint: hash of listing and sampled contents, for results to carry; "" where the
            listing could not be read.
    """

    dataset: str
    root: Path
    variant: str
    findings: tuple[Finding, ...]
    fingerprint: str = ""

    @property
    def usable(self) -> bool:
        """True where no finding speaks against training and evaluating with these data."""
        return all(finding.ok or not finding.fatal for finding in self.findings)

    def table(self) -> str:
        """Return the findings as lines of text, then what to do about those that are not ok."""
        rows = [("", "found", "expected", "")] + [
            (f.name, _shown(f.found), _shown(f.expected), f.verdict) for f in self.findings
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {expected:>{widths[2]}}  {verdict}"
            for name, value, expected, verdict in rows
        ]
        remedies = dict.fromkeys(f.remedy for f in self.findings if not f.ok and f.remedy)
        head = f"{self.dataset} ({self.variant}) in {self.root}"
        foot = [f"fingerprint {self.fingerprint or 'none'}"]
        return "\n".join(
            line.rstrip() for line in [head, *lines, *(f"- {text}" for text in remedies), *foot]
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report for a json file, with `usable`."""
        return {
            "dataset": self.dataset,
            "root": str(self.root),
            "variant": self.variant,
            "usable": self.usable,
            "fingerprint": self.fingerprint,
            "findings": [asdict(finding) for finding in self.findings],
        }


def _shown(value: Value) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else value

"""What came of a run, for people and for machines."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.chaos.plan import Plan
from benchmarks.invariants import Findings

#: What roles say of themselves that shows that faults have had their effect.
_EVIDENCE = {
    "end of attempt not counted": "late ends refused",
    "lease lost": "leases lost while running",
    "job taken over": "jobs taken over",
    "commit delayed": "commits sent again",
}
_ERROR = re.compile(r'"event": ?"([^"]*)".*"level": ?"error"')


class Outcome(msgspec.Struct):
    plan: Plan
    findings: Findings
    strikes: dict[str, int]  # what was done, how often
    skipped: dict[str, int]  # what this machine does not let us do
    evidence: dict[str, int]
    seconds: float
    rested: bool
    exits: list[str]  # roles that ended although nobody ended them
    audit: str = ""  # what `audit verify` found, if it found anything
    archived: int = 0  # files

    @property
    def wrong(self) -> list[str]:
        wrong = [*self.findings.wrong, *self.exits]
        if self.audit:
            wrong.append(f"audit: {self.audit}")
        if not self.rested:
            wrong.append(f"not at rest {self.plan.patience:g} s after the last job")
        return wrong

    @property
    def sound(self) -> bool:
        return not self.wrong and (self.plan.may_lose or not self.findings.lost)

    def report(self) -> dict[str, Any]:
        """Numbers, then what is wrong."""
        plan = self.plan
        return {
            "seed": plan.seed,
            "seconds": round(self.seconds, 1),
            "fsync": plan.fsync,
            "durability": plan.durability,
            **self.findings.counts,
            "strikes": self.strikes,
            **({"skipped": self.skipped} if self.skipped else {}),
            "evidence": self.evidence,
            "files archived": self.archived,
            "lost": len(self.findings.lost),
            "wrong": self.wrong,
        }


def evidence(log: Path, cuts: int) -> dict[str, int]:
    """What shows in the roles' log, and how many replies the proxy has cut short."""
    found: Counter[str] = Counter(dict.fromkeys(_EVIDENCE.values(), 0))
    with log.open(errors="replace") as lines:
        for line in lines:
            for text, name in _EVIDENCE.items():
                found[name] += text in line
            if (error := _ERROR.search(line)) is not None:
                found[f"error: {error[1]}"] += 1
    found["replies cut short"] = cuts
    return dict(found)

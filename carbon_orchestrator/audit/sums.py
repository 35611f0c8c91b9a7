"""The part of an audit that goes over seals, figures and totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carbon_orchestrator.audit.figures import Figures
from carbon_orchestrator.audit.findings import Findings, Place
from carbon_orchestrator.audit.reading import COMPLETIONS, EMISSIONS, Reading
from carbon_orchestrator.audit.totals import Cut, Sums, Unsettled, compare, cut
from carbon_orchestrator.config import Config
from carbon_orchestrator.events import EmissionsRecorded, EmissionsSettled
from carbon_orchestrator.topology import CODEC
from streams.event import Entry, entry_order
from streams.proof import Head, Proof, prove

Tell = Callable[[int], None]


async def check_seals(reading: Reading, findings: Findings, noted: Head | None) -> Proof:
    """All that is sealed is as it was. `noted`: a seal that was written down elsewhere."""
    topology = reading.topology
    proof = await prove(
        reading.history,
        streams=[topology.partition.name(each) for each in topology.streams],
        head=noted,
        removed=reading.removed,
        removed_by_now=reading.removed_by_now,
    )
    findings.check("seals", proof.entries)
    for each in proof.findings:
        place = None if each.first is None else Place(each.stream, each.first)
        what = f"{each.stream}: {each.what}" + (f" ({each.file})" if each.file else "")
        findings.find("seals", what, place, expected=each.expected, found=each.found)
    if unsealed := sum(proof.unsealed.values()):
        findings.skip("seals", "entries not sealed yet", unsealed)
    if missing := sum(proof.missing.values()):
        findings.skip("seals", "sealed runs of entries that this archive does not reach", missing)
    return proof


async def check_sums(reading: Reading, findings: Findings, tell: Tell = lambda count: None) -> None:
    """Figures of all emissions, and totals where there is a server and the record is whole."""
    there = await _totals(reading, findings)
    holds = reading.configurations.holds()
    figures = Figures(reading.grids, holds, findings, reading.reached)
    sums = Sums(reading.topology, home(reading))
    source = reading.source
    for stream in (COMPLETIONS, EMISSIONS):
        if stream == COMPLETIONS and there is None:
            continue
        group = None if there is None else there.places[stream]
        read = 0
        async for page in reading.history.pages(stream, source.after, source.until):
            entries = [CODEC.entry(stream, entry_id, fields) for entry_id, fields in page]
            if _later(entries, reading):
                await reading.follow()  # priced by what came after intensities were read
            for entry in entries:
                _figures(figures, entry)
                if group is not None:
                    read += entry_order(entry.id) <= entry_order(group.last)
                    # What accounting gave up is among the dead letters and counts for nothing.
                    given_up = not entry.faults and (stream, entry.id) in reading.buried
                    if group.done(entry.id) and not given_up:
                        _add(sums, entry, findings)
            tell(len(page))
        if group is not None and group.read is not None and group.read != read:
            findings.find(
                "totals",
                f"{stream} does not hold all that accounting has read",
                expected=f"{group.read} entries",
                found=f"{read} entries",
            )
    if there is not None:
        compare(sums, there, reading.topology, findings)


async def _totals(reading: Reading, findings: Findings) -> Cut | None:
    """Those on the server, where they can be compared."""
    if reading.redis is None:
        findings.skip("totals", "there is no server: totals are on it alone")
    elif reading.source.late or reading.source.until is not None:
        findings.skip("totals", "they are of all times, not of a part")
    else:
        try:
            there = await cut(reading.redis, reading.topology)
        except Unsettled as error:
            findings.skip("totals", str(error))
        else:
            # What was given up since the audit began is not in these totals.
            await reading.read_letters()
            return there
    return None


def _later(entries: Sequence[Entry], reading: Reading) -> bool:
    """Whether some were priced by an intensity that has not been read."""
    known = reading.grids.known
    return any(
        isinstance(each.event, EmissionsRecorded)
        and each.event.priced_by is not None
        and each.event.priced_by not in known
        for entry in entries
        for each in entry.messages
    )


def _add(sums: Sums, entry: Entry, findings: Findings) -> None:
    try:
        sums.add(entry)
    except (ValueError, OverflowError, OSError) as error:  # of no day that there is
        what = f"it cannot be counted: {error}"
        findings.find("totals", what, Place(entry.stream, entry.id))


def _figures(figures: Figures, entry: Entry) -> None:
    for message in entry.messages:
        event = message.event
        if isinstance(event, EmissionsRecorded):
            place = Place(entry.stream, entry.id, message.index, event.job_id)
            figures.recorded(event, place)
        elif isinstance(event, EmissionsSettled):
            figures.settled(event, Place(entry.stream, entry.id, message.index))


def home(reading: Reading) -> str:
    """The home zone, as the last accounting announced it."""
    for each in reading.configurations.of("accounting"):
        return each.config.zone
    return Config().zone

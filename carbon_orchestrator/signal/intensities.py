"""The intensity stream as a table: what is known of the grid, in memory."""

from __future__ import annotations

from collections.abc import Iterable

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands, Outlook, outlook
from carbon_orchestrator.signal.series import Series
from streams.event import Message, entry_order

#: How far back the series reaches: a job's baseline needs the intensities at its submission.
KEPT_MS = 40 * 86_400_000
#: Replication lags by less.
_YOUNG_MS = 60_000


def young(places: Iterable[str | None], now: int) -> frozenset[str]:
    """Those of these places ("entry/index") in the intensity stream whose entries are so new at
    `now` (wall ms) that they may be lost with a primary: what is made from them must require that
    they are still there."""
    since = now - _YOUNG_MS
    return frozenset(
        place for place in places if place is not None and int(place.partition("-")[0]) > since
    )


class Intensities:
    """Folds intensity events of one zone; times are grid ms.

    Average and marginal values are never mixed: each kind has its own series, which goes on when
    another source of that kind speaks. Nor are those of a simulated and a real grid. The event
    that says what is expected next is its publisher's newest word, even where its time is not
    after that of another publisher's last one. Entries come in order; one from before the last
    says that the stream was lost and is read anew, and what it said until then is forgotten.
    """

    def __init__(self, zone: str, bands: Bands) -> None:
        self.zone = zone
        self.bands = bands
        #: "entry/index" of the last event of the stream, of whichever zone.
        self.applied: str | None = None
        self._read = (0, 0)
        self._forget()

    def _forget(self) -> None:
        self.latest: IntensityObserved | None = None
        self.first: IntensityObserved | None = None
        self.series = Series(self.bands.max_age_ms)  # of the latest event's kind
        self._all: dict[tuple[str, bool], Series] = {}
        self._outlook = Outlook(zone=self.zone)

    def of(self, kind: str | None, simulated: bool) -> Series:
        """The series of a kind, as events name it. For None, which is what is on record of a time
        when nothing was known of the zone, that of the first event there ever was."""
        if kind is None:
            if self.first is None:
                return self.series
            kind, simulated = self.first.kind, self.first.simulated
        return self._all.get((kind, simulated)) or Series(self.bands.max_age_ms)

    def apply(self, message: Message) -> None:
        """Take in one event; the same event twice changes nothing."""
        order = entry_order(message.entry_id)
        if order < self._read:
            self._forget()
        self._read, self.applied = order, f"{message.entry_id}/{message.index}"
        event = message.event
        if not isinstance(event, IntensityObserved) or event.zone != self.zone:
            return
        latest = self.latest
        self.first = self.first or event
        series = self._all.setdefault((event.kind, event.simulated), Series(self.bands.max_age_ms))
        series.add(event.time, event.intensity)
        if latest is None or event.forecast or event.time >= latest.time:
            series.forget_before(event.time - KEPT_MS)
            self.latest, self.series = event, series
            self._outlook = outlook(event, self.applied, series, self.bands, event.time)

    def outlook(self) -> Outlook:
        """The outlook from the latest event; its age is judged by `Outlook.band_at`."""
        return self._outlook

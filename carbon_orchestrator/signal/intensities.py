"""The intensity stream as a table: what is known of the grid, in memory."""

from __future__ import annotations

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands, Outlook, outlook
from carbon_orchestrator.signal.series import Series
from streams.event import Message

#: How far back the series reaches: a job's baseline needs the intensities at its submission.
KEPT_MS = 40 * 86_400_000


class Intensities:
    """Folds intensity events of one zone; times are grid ms.

    Average and marginal values are never mixed: each kind has its own series, which goes on when
    another source of that kind speaks. Nor are those of a simulated and a real grid. The event
    that says what is expected next is its publisher's newest word, even where its time is not
    after that of another publisher's last one.
    """

    def __init__(self, zone: str, bands: Bands) -> None:
        self.zone = zone
        self.bands = bands
        self.latest: IntensityObserved | None = None
        self.series = Series(bands.max_age_ms)  # of the latest event's kind
        self._all: dict[tuple[str, bool], Series] = {}
        self._outlook = Outlook(zone=zone)

    def apply(self, message: Message) -> None:
        """Take in one event; the same event twice changes nothing."""
        event = message.event
        if not isinstance(event, IntensityObserved) or event.zone != self.zone:
            return
        latest = self.latest
        series = self._all.setdefault((event.kind, event.simulated), Series(self.bands.max_age_ms))
        series.add(event.time, event.intensity)
        if latest is None or event.forecast or event.time >= latest.time:
            series.forget_before(event.time - KEPT_MS)
            self.latest, self.series = event, series
            entry = f"{message.entry_id}/{message.index}"
            self._outlook = outlook(event, entry, series, self.bands, event.time)

    def outlook(self) -> Outlook:
        """The outlook from the latest event; its age is judged by `Outlook.band_at`."""
        return self._outlook

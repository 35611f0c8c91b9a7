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

    A change of source or kind starts a new series: average and marginal values, or values of
    two sources, are never mixed.
    """

    def __init__(self, zone: str, bands: Bands) -> None:
        self.zone = zone
        self.bands = bands
        self.latest: IntensityObserved | None = None
        self.series = Series(bands.max_age_ms)
        self._latest_id = ""
        self._outlook = Outlook(zone=zone)

    def apply(self, message: Message) -> None:
        """Take in one event; the same event twice changes nothing."""
        event = message.event
        if not isinstance(event, IntensityObserved) or event.zone != self.zone:
            return
        latest = self.latest
        if latest is not None and (event.source, event.kind) != (latest.source, latest.kind):
            self.series = Series(self.bands.max_age_ms)
            latest = None
        self.series.add(event.time, event.intensity)
        self.series.forget_before(event.time - KEPT_MS)
        if latest is None or event.time >= latest.time:
            self.latest = event
            self._latest_id = f"{message.entry_id}/{message.index}"
            self._outlook = outlook(event, self._latest_id, self.series, self.bands, event.time)

    def outlook(self) -> Outlook:
        """The outlook from the latest event; its age is judged by `Outlook.band_at`."""
        return self._outlook

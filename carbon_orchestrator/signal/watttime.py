"""WattTime v3: marginal emissions of many grids by five minutes, with an account.

docs.watttime.org. Login by name and password gives a token for 30 minutes. Values are in lbs/MWh.
Marginal (co2_moer) is what one more kWh causes; average (co2_aoer) compares with other sources.
Requests to `historical` span 32 days at most. A free account has CAISO_NORTH only.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from typing import Any

import structlog

from carbon_orchestrator.signal.credentials import Secret, credential
from carbon_orchestrator.signal.live import DAY_MS, Live
from carbon_orchestrator.signal.points import (
    Collector,
    Reading,
    Span,
    iso,
    iso_ms,
    items,
    member,
)
from carbon_orchestrator.signal.provider import Expected, Kind, Point, SignalError
from carbon_orchestrator.signal.web import Refused, WebSource, base_url, one_line

log = structlog.get_logger(__name__)

PUBLIC_URL = "https://api.watttime.org"
USERNAME, PASSWORD = "WATTTIME_USERNAME", "WATTTIME_PASSWORD"  # the variables' names
FIVE_MINUTES_MS = 300_000
FRESH = 120.0  # seconds
TOKEN_LIFE = 25 * 60.0  # seconds; it is valid for 30 minutes
LOGIN_REFUSED_FOR = 600.0  # seconds for which a refused name and password are not tried again
FORECAST_REFUSED_FOR = 6 * 3600.0
# 1 lb is 0.45359237 kg (exactly: International yard and pound agreement, 1959), 1 MWh 1000 kWh.
GRAMS_PER_KWH = 0.45359237  # of 1 lb/MWh

KINDS: dict[str, Kind] = {"co2_moer": "marginal", "co2_aoer": "average"}
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class WattTime(Live):
    """`argument`: REGION or REGION:SIGNAL_TYPE, "CAISO_NORTH" or "CAISO_NORTH:co2_aoer"."""

    window_ms = 31 * DAY_MS

    def __init__(self, argument: str, *, zone: str, base: str | None = None) -> None:
        """`base`: another URL than $CARBON_WATTTIME_URL or the public one."""
        self._region, _, signal = argument.strip().partition(":")
        self._signal = signal or "co2_moer"
        if not _REGION.fullmatch(self._region) or self._signal not in KINDS:
            raise SignalError(
                f"WattTime has no intensity {argument!r}; write watttime:CAISO_NORTH, or"
                f" watttime:CAISO_NORTH:TYPE with one of {', '.join(KINDS)}",
                permanent=True,
            )
        url = base_url("WattTime", "CARBON_WATTTIME_URL", PUBLIC_URL, base)
        web = WebSource(
            f"WattTime {self._region}",
            url,
            refused=f"check that your account has {self._signal} of {self._region}; a free one"
            " has CAISO_NORTH",
            unknown=f"check that {self._region!r} is a region it knows",
        )
        self._login = Login(web)
        self._no_forecast_until = 0.0
        super().__init__(
            web,
            zone=zone,
            source=f"WattTime {self._signal} {self._region}",
            kind=KINDS[self._signal],
            resolution_ms=FIVE_MINUTES_MS,
        )

    async def _points(self, span: Span) -> list[Point]:
        start = span.start - span.start % FIVE_MINUTES_MS
        end = span.end - span.end % FIVE_MINUTES_MS + FIVE_MINUTES_MS
        times = {"start": iso(start), "end": iso(end), "include_imputed_marker": "true"}
        return (await self._read("historical", times)).points

    async def forecast(self, t: int) -> list[Expected]:
        if self.web.clock() < self._no_forecast_until:
            return []
        try:
            reading = await self._read("forecast", {"horizon_hours": "72"})
        except Refused:
            if not self._login.accepted:
                raise
            self._no_forecast_until = self.web.clock() + FORECAST_REFUSED_FOR
            log.warning("not in the plan", source=self.source, endpoint="forecast")
            return []
        return [point for point in reading.expected if point.time > t]

    async def _read(self, endpoint: str, params: Mapping[str, str]) -> Reading:
        token = await self._login.token()
        try:
            return await self._ask(endpoint, params, token)
        except Refused as refused:
            if refused.status != 401:
                raise
        return await self._ask(endpoint, params, await self._login.token(rejected=token))

    async def _ask(self, endpoint: str, params: Mapping[str, str], token: Secret) -> Reading:
        def parse(answer: Any) -> Reading:
            meta = checked_meta(answer, self._region, self._signal, self.source)
            period = meta.get("data_point_period_seconds")
            if isinstance(period, int) and 60 <= period <= 86_400:
                self.resolution_ms = period * 1000
            for warning in parse_warnings(meta):
                log.warning("the source warns", source=self.source, warning=warning)
            return parse_watttime(answer, forecast=endpoint == "forecast", source=self.source)

        return await self.web.get(
            f"v3/{endpoint}",
            {"region": self._region, "signal_type": self._signal, **params},
            self.noted(parse),
            headers={"Authorization": token},
            fresh=FRESH,
        )


class Login:
    """The token of an account: renewed in time, by one caller for all."""

    def __init__(self, web: WebSource) -> None:
        """Raises SignalError if there is no name or password."""
        self._web = web
        self._one = asyncio.Lock()
        self._token: Secret | None = None
        self._renew_at = 0.0
        self._refused: Secret | None = None
        self._refused_until = 0.0
        basic()

    @property
    def accepted(self) -> bool:
        """Whether the last login succeeded."""
        return self._token is not None

    async def token(self, rejected: Secret | None = None) -> Secret:
        """The value of an Authorization header, other than `rejected`. Raises SignalError."""
        try:
            async with asyncio.timeout(self._web.timeout), self._one:
                due = self._web.clock() >= self._renew_at
                if self._token is None or due or self._token == rejected:
                    self._token = None
                    self._token = await self._new()
                    self._renew_at = self._web.clock() + TOKEN_LIFE
                return self._token
        except TimeoutError:
            raise SignalError(
                f"{self._web.name}: no login within {self._web.timeout:g} s; it is tried again"
            ) from None

    async def _new(self) -> Secret:
        used = basic()
        if used == self._refused and self._web.clock() < self._refused_until:
            raise self._refusal(401)
        try:
            token = await self._web.get("login", {}, parse_login, headers={"Authorization": used})
        except Refused as error:
            self._refused, self._refused_until = used, self._web.clock() + LOGIN_REFUSED_FOR
            raise self._refusal(error.status) from None
        if token is None:
            raise SignalError(f"{self._web.name}: the login gave no token; it is tried again later")
        return token

    def _refusal(self, status: int) -> Refused:
        return Refused(
            f"{self._web.name}: the login is refused ({status}); check {USERNAME} and {PASSWORD}",
            status,
        )


def basic() -> Secret:
    """The Authorization header of a login (RFC 7617). Raises SignalError."""
    name, password = credential(USERNAME), credential(PASSWORD)
    pair = base64.b64encode(f"{name.reveal()}:{password.reveal()}".encode()).decode()
    return Secret(f"Basic {pair}", Secret(pair), password)


def parse_login(answer: Any) -> Secret | None:
    """The Authorization header to use, from {"token": "..."}; None if there is none."""
    token = answer.get("token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        return None
    return Secret(f"Bearer {token}", Secret(token))


def checked_meta(answer: Any, region: str, signal: str, source: str) -> dict[str, Any]:
    """The "meta" of an answer, if it is about what was asked, in lbs/MWh. Raises SignalError."""
    meta = member(source, answer, "meta")
    wanted = {"region": region, "signal_type": signal, "units": "lbs_co2_per_mwh"}
    for name, value in wanted.items():
        found = member(source, meta, name)
        if found != value:
            raise SignalError(
                f"{source}: the answer has {name} {one_line(str(found))!r} instead of {value!r};"
                " its format may have changed, use another source",
                permanent=True,
            )
    return dict(meta)


def parse_watttime(answer: Any, *, forecast: bool = False, source: str = "WattTime") -> Reading:
    """{"data": [{"point_time", "value"}]}, lbs/MWh to g/kWh. Raises SignalError."""
    found = Collector(source, GRAMS_PER_KWH)
    for row in items(source, answer, "data"):
        if not isinstance(row, dict):
            found.skipped += 1
            continue
        time, value = iso_ms(row.get("point_time")), row.get("value")
        if forecast:
            found.expect(time, value)
        else:
            found.point(time, value, estimated=bool(row.get("imputed_data_used")))
    return found.reading()


def parse_warnings(meta: dict[str, Any]) -> list[str]:
    """The texts of "warnings", ten at most."""
    warnings = meta.get("warnings")
    if not isinstance(warnings, list):
        return []
    messages = [each.get("message") for each in warnings[:10] if isinstance(each, dict)]
    return [one_line(message) for message in messages if isinstance(message, str)]

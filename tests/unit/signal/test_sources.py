"""Who of a zone's sources speaks, and what is said of those that do not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from carbon_orchestrator.signal.breaker import PERMANENT_SECONDS
from carbon_orchestrator.signal.provider import Expected, Kind, Point, SignalError
from carbon_orchestrator.signal.sources import FIRST_WAIT, LONGEST_WAIT, Heard, Sources

HOUR = 3_600_000
NOW = 1_700_000_000_000
FRESH = [Point(NOW - HOUR, 100.0)]
SLOW = SignalError("A: no full answer within 20 s; it is asked again later")
BUSY = SignalError("A: answered 429; it is asked again later", retry_after=90.0)
REFUSED = SignalError("A: answered 401; check the key", permanent=True)

Answer = Sequence[Point] | Exception


class Scripted:
    """A provider that answers as the test says."""

    kind: Kind = "average"
    simulated = False
    start: int | None = None
    zone = "GB"

    def __init__(self, source: str, answer: Answer = FRESH, resolution_ms: int = HOUR) -> None:
        self.source, self.answer = source, answer
        self.resolution_ms = resolution_ms
        self.end: int | None = None
        self.asked: list[tuple[int, int]] = []
        self.closed = False
        self.fails_to_close = False

    async def now(self, t: int) -> Point | None:
        raise NotImplementedError

    async def history(self, t0: int, t1: int) -> list[Point]:
        self.asked.append((t0, t1))
        if isinstance(self.answer, Exception):
            raise self.answer
        return list(self.answer)

    async def forecast(self, t: int) -> list[Expected]:
        return []

    async def aclose(self) -> None:
        self.closed = True
        if self.fails_to_close:
            raise OSError("closing failed")


class Bench:
    """Sources A, B, … and a clock of seconds that pass when the test says so."""

    def __init__(self, *answers: Answer, silence_ms: int = 3 * HOUR) -> None:
        self.seconds = 1000.0
        self.providers = [Scripted(chr(65 + n), answer) for n, answer in enumerate(answers)]
        self.sources = Sources(self.providers, silence_ms, lambda: self.seconds)

    async def ask(self) -> Heard | None:
        return await self.sources.ask(lambda provider: NOW - 2 * HOUR, NOW)

    async def settle(self) -> Heard:
        """Ask, whenever one is to be asked again, until somebody or nobody speaks."""
        for _ in range(20):
            heard = await self.ask()
            if heard is not None:
                return heard
            self.seconds += self.sources.wait()
        raise AssertionError("it does not come to an end")

    @property
    def asked(self) -> list[int]:
        return [len(each.asked) for each in self.providers]


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)


def speaker(heard: Heard | None) -> str | None:
    return heard.source.provider.source if heard is not None and heard.source is not None else None


async def test_the_first_that_answers_speaks_and_the_others_are_not_asked() -> None:
    bench = Bench(FRESH, FRESH)
    heard = await bench.ask()
    assert speaker(heard) == "A"
    assert heard is not None
    assert heard.points == FRESH
    assert heard.degraded is None
    assert bench.providers[0].asked == [(NOW - 2 * HOUR, NOW)]
    assert bench.asked == [1, 0]
    assert bench.sources.wait() == float("inf")


async def test_a_source_that_fails_is_asked_again_before_another_speaks_for_it() -> None:
    bench = Bench(SLOW, FRESH)
    assert await bench.ask() is None
    assert bench.sources.wait() == FIRST_WAIT
    assert await bench.ask() is None, "not yet asked again"
    assert bench.asked == [1, 0]
    bench.seconds += FIRST_WAIT
    assert await bench.ask() is None
    bench.seconds += bench.sources.wait()
    heard = await bench.ask()
    assert speaker(heard) == "B"
    assert bench.asked == [3, 1]
    bench.providers[0].answer = FRESH
    bench.seconds += bench.sources.wait()
    assert speaker(await bench.ask()) == "A", "half-open: one answer closes it"
    assert bench.asked == [4, 1]


async def test_why_it_is_not_the_first_that_speaks_is_said_in_words() -> None:
    bench = Bench(SLOW, REFUSED, FRESH)
    heard = await bench.settle()
    assert speaker(heard) == "C"
    assert heard.degraded == (
        "A failing since 2023-11-14T22:13:20.000Z (no full answer within 20 s; it is asked again"
        " later); B failing since 2023-11-14T22:13:20.000Z (A: answered 401; check the key)"
    )


async def test_all_sources_are_dead() -> None:
    bench = Bench(REFUSED, BUSY)
    heard = await bench.settle()
    assert speaker(heard) is None
    assert heard.points == []
    assert heard.degraded is not None
    assert "429" in heard.degraded
    assert bench.sources.wait() == 90.0


async def test_who_asks_to_be_left_alone_is_left_alone() -> None:
    bench = Bench(BUSY, FRESH)
    assert speaker(await bench.ask()) == "B", "at once: it will not answer soon"
    bench.seconds += 89.9
    assert speaker(await bench.ask()) == "B"
    assert bench.asked == [1, 2]
    bench.providers[0].answer = FRESH
    bench.seconds += 0.1
    assert speaker(await bench.ask()) == "A"


async def test_a_fault_that_stays_is_asked_about_seldom() -> None:
    bench = Bench(REFUSED, FRESH)
    assert speaker(await bench.ask()) == "B"
    assert bench.sources.wait() == PERMANENT_SECONDS
    bench.seconds += PERMANENT_SECONDS - 1
    await bench.ask()
    assert bench.asked[0] == 1
    bench.seconds += 1
    await bench.ask()
    assert bench.asked[0] == 2


async def test_waits_grow_to_a_bound_with_jitter_and_start_anew_after_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jitter: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        jitter.append((low, high))
        return 1.0

    monkeypatch.setattr(random, "uniform", uniform)
    bench = Bench(SLOW)
    waits = []
    for _ in range(14):
        await bench.ask()
        waits.append(round(bench.sources.wait(), 6))
        bench.seconds += bench.sources.wait()
    assert waits[:4] == [0.5, 1, 2, 4]
    assert waits[-1] == LONGEST_WAIT
    assert set(jitter) == {(0.5, 1.5)}
    bench.providers[0].answer = FRESH
    await bench.ask()
    bench.providers[0].answer = SLOW
    await bench.ask()
    assert bench.sources.wait() == pytest.approx(FIRST_WAIT)


async def test_who_failed_after_the_one_that_speaks_is_nobody_s_hurry() -> None:
    """Nobody asks it again, so waiting for that would be a busy loop."""
    bench = Bench(BUSY, BUSY, FRESH)
    assert speaker(await bench.ask()) == "C"
    bench.providers[0].answer = FRESH
    bench.seconds += 1000
    assert speaker(await bench.ask()) == "A"
    assert bench.sources.wait() == float("inf")
    bench.providers[0].answer = SLOW
    assert await bench.ask() is None
    assert bench.sources.wait() == pytest.approx(FIRST_WAIT), "though B's time is over"


@pytest.mark.parametrize(
    ("answer", "end", "words"),
    [
        ([], None, "A has nothing"),
        ([Point(NOW - 4 * HOUR, 1.0)], None, "A has nothing after 2023-11-14T18:13:20.000Z"),
        ([Point(NOW - 4 * HOUR, 1.0)], NOW - 4 * HOUR, "A ended at 2023-11-14T18:13:20.000Z"),
    ],
)
async def test_a_source_without_anything_new_is_as_good_as_dead_but_asked_on(
    answer: list[Point], end: int | None, words: str
) -> None:
    bench = Bench(answer, FRESH)
    bench.providers[0].end = end
    with capture_logs() as logs:
        for _ in range(3):
            heard = await bench.ask()
            assert speaker(heard) == "B"
            assert heard is not None
            assert heard.degraded == words
    assert [log["problem"] for log in logs] == [words], "said once"
    assert bench.asked == [3, 3]
    bench.providers[0].answer = FRESH
    heard = await bench.ask()
    assert speaker(heard) == "A"
    assert heard is not None
    assert heard.degraded is None


async def test_a_coarse_source_may_be_older() -> None:
    bench = Bench([Point(NOW - 40 * HOUR, 1.0)])
    assert speaker(await bench.ask()) is None
    bench.providers[0].resolution_ms = 20 * HOUR
    assert speaker(await bench.ask()) == "A"
    assert bench.sources.silent_after(bench.providers[0]) == 40 * HOUR


async def test_a_provider_that_breaks_is_a_source_that_fails() -> None:
    bench = Bench(ZeroDivisionError("a secret"), FRESH)
    with capture_logs() as logs:
        heard = await bench.settle()
    assert speaker(heard) == "B"
    assert heard.degraded is not None
    assert heard.degraded.endswith("(ZeroDivisionError)")
    assert any(log["event"] == "source broke" for log in logs)


@pytest.mark.parametrize(
    "text", ["x" * 5000, "a\nb\r\n\tc", "\x1b[31mred\x07", "", "ä" * 300], ids=range(5)
)
async def test_a_problem_is_one_line_of_bounded_length(text: str) -> None:
    bench = Bench(*[SignalError(text, permanent=True)] * 4)
    heard = await bench.settle()
    assert heard.degraded is not None
    assert len(heard.degraded) <= 600
    assert heard.degraded.isprintable()
    assert all(len(each.problem or "") < 300 for each in bench.sources.all)


async def test_all_are_closed_even_if_one_cannot_be() -> None:
    bench = Bench(FRESH, FRESH)
    bench.providers[0].fails_to_close = True
    with capture_logs() as logs:
        await bench.sources.aclose()
    assert [each.closed for each in bench.providers] == [True, True]
    assert [log["event"] for log in logs] == ["source not closed"]


def test_ranks_are_the_order_given_and_strangers_come_last() -> None:
    sources = Bench(FRESH, FRESH).sources
    assert [sources.rank(name) for name in ("A", "B", "own forecast", "C")] == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="a zone needs a source"):
        Sources([], HOUR)

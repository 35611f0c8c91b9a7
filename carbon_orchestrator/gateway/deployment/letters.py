"""Dead letters over HTTP: seen, retried, dropped."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.gateway.door.guard import caller
from carbon_orchestrator.gateway.intake.strict import Malformed, names, wrong
from carbon_orchestrator.gateway.problems import answer, problem, unavailable
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.letters import (
    DROPPED,
    RETRIED,
    UNKNOWN,
    Act,
    Group,
    Letters,
    fields_of,
    grouped,
    is_letter_id,
    name_of,
    readable,
)
from streams.dead_letters import DeadLetter, kind
from streams.errors import CommitUnknown

MOST_LISTED = 1000
#: Letters that are put into groups, the oldest.
MOST_GROUPED = 10_000
#: Ids in one request, and letters that one request deals with.
MOST_IDS = 1000
MOST_DONE = 5000
_KEPT_SECONDS = 2.0
_LATEST_MS = 253_402_300_799_999  # an entry may be given any id; later there are no dates


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Letters by their ids; or all of one group: its stream and the kind of its reasons."""

    ids: list[str] | None = None
    stream: str | None = None
    kind: str | None = None

    def fault(self) -> tuple[str, str] | None:
        """What is wrong with it, and in which field."""
        if self.ids is None:
            if self.stream is None or self.kind is None:
                return "name ids, or the stream and kind of a group", "ids"
            return None
        if self.stream is not None or self.kind is not None:
            return "name either ids, or a stream and a kind", "ids"
        if not 1 <= len(self.ids) <= MOST_IDS:
            return f"1 to {MOST_IDS} ids", "ids"
        for index, letter_id in enumerate(self.ids):
            if not is_letter_id(letter_id):
                return "no dead letter's id, such as 1700000000000-0", f"ids.{index}"
        return None

    def holds(self, letter: DeadLetter) -> bool:
        """Whether the letter is of the group; any reason of its kind names the kind."""
        return self.stream in (letter.stream, name_of(letter.stream)) and kind(
            letter.reason
        ) == kind(self.kind or "")


_decoder = msgspec.json.Decoder(Chosen)


class DeadLetterOffice:
    """What is asked of dead letters, and done with them."""

    def __init__(self, reading: Reading, letters: Letters) -> None:
        self._reading = reading
        self._letters = letters
        self._groups = Fresh(_KEPT_SECONDS, self._grouped)

    async def list(self, request: web.Request) -> web.Response:
        """A page of letters, the oldest first, and all groups."""
        query = request.query
        after = query.get("after", "-")
        if after != "-" and not is_letter_id(after):
            return problem(422, "invalid-query", "after is a dead letter's id", field="after")
        try:
            limit = int(query.get("limit", "100"))
            if not 1 <= limit <= MOST_LISTED:
                raise ValueError
        except ValueError:
            said = f"limit is a number from 1 to {MOST_LISTED}"
            return problem(422, "invalid-query", said, field="limit")
        found = await self._letters.first(limit + 1, after)
        groups, number = await self._groups.get()
        return answer(
            {
                "total": await self._reading.dead_letters(),
                "grouped": number,
                "groups": groups,
                "letters": [_shown(each) for each in found[:limit]],
                "more": len(found) > limit,
            }
        )

    async def show(self, request: web.Request) -> web.Response:
        """One letter, with the original's fields."""
        letter_id = request.match_info["id"]
        letter = await self._letters.get(letter_id) if is_letter_id(letter_id) else None
        if letter is None:
            return problem(404, "no-such-dead-letter", f"{UNKNOWN}; it may have been dealt with")
        fields = fields_of(letter)
        shown = {
            **_shown(letter),
            "group": letter.group,
            "fields": [[readable(name), readable(value)] for name, value in fields],
            "fields_base64": [
                [base64.b64encode(each).decode() for each in pair] for pair in fields
            ],
        }
        return answer(shown)

    async def retry(self, request: web.Request) -> web.Response:
        """Put letters back on the streams from which they came."""
        return await self._do(request, self._letters.retry(caller(request).name), RETRIED)

    async def drop(self, request: web.Request) -> web.Response:
        """Delete letters for good."""
        return await self._do(request, self._letters.drop(caller(request).name), DROPPED)

    async def _do(self, request: web.Request, act: Act, success: str) -> web.Response:
        if request.content_type != "application/json":
            return problem(415, "unsupported-media-type", "send application/json")
        body = await request.read()
        try:
            names(body)
            chosen = _decoder.decode(body)
        except msgspec.ValidationError as error:
            told = wrong(str(error), Chosen.__struct_fields__)
            return problem(422, "invalid-choice", str(told), field=told.field)
        except (Malformed, msgspec.DecodeError, UnicodeDecodeError) as error:
            return problem(400, "malformed-json", str(error))
        if (fault := chosen.fault()) is not None:
            return problem(422, "invalid-choice", fault[0], field=fault[1])
        try:
            outcomes, more = await self._outcomes(chosen, act)
        except CommitUnknown:
            return unavailable(
                "the server did not answer in time; some of it may have been done: look at"
                " /dead-letters before you send it again"
            )
        finally:
            self._groups.forget()
        return answer(
            {
                "outcomes": [
                    {"id": letter_id, "outcome": outcome} for letter_id, outcome in outcomes.items()
                ],
                "done": sum(outcome == success for outcome in outcomes.values()),
                "more": more,
            }
        )

    async def _outcomes(self, chosen: Chosen, act: Act) -> tuple[dict[str, str], bool]:
        """What became of each letter; whether there are more of the group than were dealt with."""
        outcomes: dict[str, str] = {}
        if chosen.ids is not None:
            async for some in self._letters.each(dict.fromkeys(chosen.ids), act):
                outcomes |= some
            return outcomes, False
        async for page in self._letters.pages(chosen.holds):
            room = MOST_DONE - len(outcomes)
            if page[:room]:
                outcomes |= await act(page[:room])
            if len(page) > room:
                return outcomes, True
        return outcomes, False

    async def _grouped(self) -> tuple[Any, int]:
        """The groups as JSON, and how many letters they were made of."""
        heads: list[DeadLetter] = []
        async for page in self._letters.pages(lambda letter: True):
            # Without their contents, which may be large.
            heads += [msgspec.structs.replace(each, fields=(), stored=()) for each in page]
            if len(heads) >= MOST_GROUPED:
                break
        return _groups(grouped(heads)), len(heads)


def _groups(groups: Iterable[Group]) -> Any:
    return [
        {
            "stream": name_of(group.stream),
            "kind": group.kind,
            "reason": group.reason,
            "count": len(group.letters),
            "oldest": _at(group.letters[0]),
            "newest": _at(group.letters[-1]),
            "example": group.letters[-1].id,
        }
        for group in groups
    ]


def _shown(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": _at(letter),
        "stream": name_of(letter.stream),
        "reason": letter.reason,
        "entry": letter.entry_id,
        "deliveries": letter.deliveries,
    }


def _at(letter: DeadLetter) -> str:
    """When it was buried, by the wall clock of the server."""
    return rfc3339(min(int(letter.id.partition("-")[0]), _LATEST_MS))

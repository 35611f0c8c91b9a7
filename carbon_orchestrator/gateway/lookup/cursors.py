"""Cursors: where a list goes on, opaque to whoever is given one."""

from __future__ import annotations

import base64
import binascii
import hashlib


class BadCursor(ValueError):
    """A cursor that this gateway did not give out."""


class OtherList(BadCursor):
    """A cursor of another list than this."""


#: Where a job stands in a list: a time in ms, then its id.
Place = tuple[int, str]


def give(belongs_to: bytes, place: Place) -> str:
    """The cursor of a place in the list that `belongs_to` identifies."""
    score, job_id = place
    text = f"{_mark(belongs_to)}:{score}:{job_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def take(belongs_to: bytes, cursor: str) -> Place:
    """The place of a cursor that was given out for the same list; raises BadCursor."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        mark, score, job_id = raw.decode("ascii").split(":")
        place = int(score), job_id
    except (ValueError, binascii.Error):
        raise BadCursor("the cursor is none that was given out; start without one") from None
    if not 0 <= place[0] < 1 << 53:
        raise BadCursor("the cursor is none that was given out; start without one")
    if mark != _mark(belongs_to):
        raise OtherList("the cursor is of a list with other filters or order; start without one")
    return place


def _mark(belongs_to: bytes) -> str:
    return hashlib.blake2b(belongs_to, digest_size=6).hexdigest()


def between(place: Place, following: Place, *, descending: bool) -> Place:
    """A place after `place` and before `following`, as far as a list is concerned, that tells no
    more of either id than it must: they may be of jobs that whoever gets it must not know of."""
    score, job_id = place
    if following[0] != score:
        # Descending, all ids of the score come before "".
        return (score, "") if descending else (following[0], "")
    higher, lower = (job_id, following[1]) if descending else (following[1], job_id)
    length = 1
    while higher[:length] <= lower:
        length += 1
    if not descending and length == len(higher):
        return place  # nothing shorter lies between them
    return score, higher[:length]

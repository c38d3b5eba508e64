"""The recorded game of `make bench-peers`: what it says, and how often its sentences repeat."""

from __future__ import annotations

import json

from lorestream.identity import Pseudonyms
from producers.admission import Admission, parse_event
from tests.peers.streams import RECORDING, played

MOST_BYTES = 300_000
EVENTS = 3112


def test_the_recorded_events_are_accepted_and_most_sentences_repeat() -> None:
    """Nine in ten have been said before, so their vectors are in the cache: narration puts no place into a sentence."""
    assert RECORDING.stat().st_size < MOST_BYTES
    admission = Admission(Pseudonyms.parse("k1:test"), None)
    events = played(EVENTS, 0)
    for one in events:
        assert one.sent is not None
        parsed = parse_event(json.dumps({**one.sent, "agent_id": one.agent}).encode())
        admission.admit(parsed, tenant="default", server="s", accepted_at=0.0)
    assert len({one.agent for one in events}) > 20
    assert 1 - len({one.text for one in events}) / EVENTS > 0.9


def test_the_parts_of_the_recording_follow_each_other_and_begin_anew_behind_its_end() -> None:
    """A round of the bench takes the next events, under ids of their own."""
    (one,), (next_one,), (again,) = played(1, 0), played(1, 1), played(1, EVENTS)
    assert one.sent != next_one.sent
    assert (again.sent, again.text) == (one.sent, one.text)
    assert again.id != one.id

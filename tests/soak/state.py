"""Writers of state that many processes do at once, while services are killed: sums, versions, whole policies.

Each check takes a `Service`. Its writers send a write again, with the same `event_id`, until it is answered; so what they
count must be exactly what is stored at the end.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2

AGENT = "npc:miner"
_AGAIN_S = 0.02
_LONGEST_S = 300.0
"""How long a write is sent again before it counts as lost."""


@dataclass
class Service:
    """A running service. `gateways`, `query`: base URLs. `crash` ends one of its processes by kill -9 and starts it again.

    Its connections are closed at the end of its context.
    """

    gateways: list[str]
    query: str
    crash: Callable[[], None]
    crashes: int = field(default=0, init=False)
    http: httpx2.Client = field(
        default_factory=lambda: httpx2.Client(timeout=60, trust_env=False, limits=httpx2.Limits()), init=False
    )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


class Caller:
    """What one thread calls with: it sends a request again, in turn to each gateway, until it is answered.

    429 is no answer: a service of a busy machine asks for a pause.
    """

    def __init__(self, service: Service, number: int = 0) -> None:
        self._service = service
        self._turn = number

    def write(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """The first answer below 500 but 429. The request must have an event_id."""

        def send() -> httpx2.Response:
            gateway = self._service.gateways[self._turn % len(self._service.gateways)]
            self._turn += 1
            return self._service.http.request(method, gateway + path, **request)

        return self._until_answered(send)

    def applied(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """The first answer that says what became of the write."""
        params = request.pop("params", {}) | {"wait": "applied", "timeout_ms": "30000"}
        until = time.monotonic() + _LONGEST_S
        while (answer := self.write(method, path, params=params, **request)).status_code == 202:
            assert time.monotonic() < until, answer.text
        return answer

    def read(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """The first answer below 500 but 429 of the query service."""
        return self._until_answered(
            lambda: self._service.http.request(method, self._service.query + path, **request)
        )

    def _until_answered(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        until, last = time.monotonic() + _LONGEST_S, ""
        while time.monotonic() < until:
            try:
                answer = send()
            except httpx2.TransportError as error:
                last = repr(error)
            else:
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                last = answer.text
            time.sleep(_AGAIN_S)
        raise AssertionError(f"not answered within {_LONGEST_S:.0f} s, the last time: {last}")


# --- sums ------------------------------------------------------------------------------------------------------


@dataclass
class Adds:
    """`adds` additions by `writers` threads; after each of `kills` equal parts of them a process is killed.

    An event holds `each` updates. One event in ten is sent a second time although it was accepted.
    """

    adds: int
    kills: int
    writers: int = 8
    each: int = 50
    states: int = 20

    def check(self, service: Service) -> None:
        """Every sum, and every number of updates, is exact."""
        events = [self._event(number) for number in range(self.adds // self.each)]
        accepted = threading.Semaphore(0)

        def writer(number: int) -> None:
            caller, chance = Caller(service, number), random.Random(number)
            for event in events[number :: self.writers]:
                for _ in range(1 + (chance.random() < 0.1)):
                    answer = caller.write("POST", f"/v1/q/{AGENT}/update", json=event)
                    assert answer.status_code == 202, answer.text
                accepted.release()

        with ThreadPoolExecutor(self.writers) as pool:
            running = [pool.submit(writer, number) for number in range(self.writers)]
            for _ in range(self.kills):
                for _ in range(len(events) // (self.kills + 1)):
                    assert accepted.acquire(timeout=_LONGEST_S)
                service.crash()
                service.crashes += 1
            for one in running:
                one.result()
        self._compare(service, events)

    def _event(self, number: int) -> dict[str, Any]:
        chance = random.Random(f"event {number}")
        updates = [
            {
                "state": f"s{chance.randrange(self.states)}",
                "action": "dig",
                "op": "add",
                "value": chance.randrange(-9, 10),
            }
            for _ in range(self.each)
        ]
        return {"event_id": f"add-{number}", "updates": updates}

    def _compare(self, service: Service, events: Iterable[dict[str, Any]]) -> None:
        sums: dict[str, dict[str, dict[str, float]]] = {}
        for update in (update for event in events for update in event["updates"]):
            one = sums.setdefault(update["state"], {"dig": {"q": 0, "n": 0}})["dig"]
            one["q"] += update["value"]
            one["n"] += 1
        caller = Caller(service)
        # The events of an agent are folded in their order: when this one is, all are.
        last = {"event_id": "last", "updates": [{"state": "last", "action": "x", "op": "set", "value": 0}]}
        answer = caller.applied("POST", f"/v1/q/{AGENT}/update", json=last)
        assert answer.status_code == 200, answer.text
        body = {"states": sorted(sums), "after": answer.json()["token"]}
        answer = caller.read("POST", f"/v1/q/{AGENT}/values", json=body)
        assert answer.json()["fresh"], answer.text
        assert answer.json()["values"] == sums


# --- versions --------------------------------------------------------------------------------------------------


def one_writer_wins_each_round(service: Service, *, rounds: int, writers: int = 16, kills: int = 0) -> None:
    """All writers put a document with the same `if_version`: one gets the new version, all others learn what it is."""
    callers = [Caller(service, number) for number in range(writers)]
    path = f"/v1/entities/character/{AGENT}"
    killed_after = {rounds * (number + 1) // (kills + 1) for number in range(kills)}
    with ThreadPoolExecutor(writers + 1) as pool:
        for version in range(rounds):

            def put(number: int, version: int = version) -> httpx2.Response:
                body = {
                    "data": {"name": f"{version} {number}"},
                    "event_id": f"{version} {number}",
                    "if_version": version,
                }
                return callers[number].applied("PUT", path, json=body)

            crash = pool.submit(service.crash) if version in killed_after else None
            answers = list(pool.map(put, range(writers)))
            if crash is not None:
                crash.result()
                service.crashes += 1
            [winner] = [number for number, answer in enumerate(answers) if answer.status_code == 200]
            assert answers[winner].json()["version"] == version + 1
            for answer in (*answers[:winner], *answers[winner + 1 :]):
                assert answer.status_code == 409, answer.text
                error = answer.json()["error"]
                assert (error["code"], error["details"]["current"]) == ("version_conflict", version + 1)
            seen = callers[0].read(
                "GET", path, params={"after": answers[winner].json()["token"], "wait_ms": "10000"}
            )
            body = seen.json()
            assert (body["version"], body["data"]) == (version + 1, {"name": f"{version} {winner}"}), body


# --- policies --------------------------------------------------------------------------------------------------


def policies_are_whole(service: Service, *, size: int, rollbacks: int, readers: int, kills: int = 0) -> None:
    """A policy of `size` bytes goes back and forth between two contents while `readers` threads read it."""
    path = f"/v1/policies/{AGENT}"
    contents = [random.Random(number).randbytes(size) for number in range(2)]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    caller, ended, reads = Caller(service), threading.Event(), list[int]()
    for number, content in enumerate(contents):
        params = {"format": "raw", "event_id": f"upload-{number}"}
        answer = caller.applied("PUT", path, params=params, content=content)
        assert (answer.status_code, answer.json()["version"]) == (200, number + 1), answer.text

    def read(client: Caller, **params: str) -> str:
        answer = client.read("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        digest = hashlib.sha256(answer.content).hexdigest()
        assert answer.headers["etag"] == f'"{digest}"'
        return digest

    def reader() -> None:
        client, count = Caller(service), 0
        while not count or not ended.is_set():
            assert read(client) in digests
            count += 1
        reads.append(count)

    killed_after = {rollbacks * (number + 1) // (kills + 1) for number in range(kills)}
    with ThreadPoolExecutor(readers) as pool:
        running = [pool.submit(reader) for _ in range(readers)]
        try:
            for number in range(rollbacks):
                if number in killed_after:
                    service.crash()
                    service.crashes += 1
                body = {"to": number + 1, "event_id": f"rollback-{number}"}
                answer = caller.applied("POST", f"{path}/rollback", json=body)
                assert answer.status_code == 200, answer.text
                assert answer.json()["version"] == number + 3
                token = answer.json()["token"]
                assert read(caller, after=token, wait_ms="10000") == digests[number % 2]
        finally:
            ended.set()
        for one in running:
            one.result()
    assert len(reads) == readers


@contextmanager
def load(service: Service) -> Generator[None]:
    """Documents of other agents are written as fast as they are accepted, until the context ends."""
    ended = threading.Event()

    def write() -> None:
        caller, number = Caller(service), 0
        while not ended.is_set():
            body = {"data": {"number": number}, "event_id": f"load-{number}"}
            caller.write("PUT", f"/v1/entities/load/npc:{number % 50}", json=body)
            number += 1

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield
        finally:
            ended.set()
            writing.result()

"""Webhooks against a real HTTP receiver: signatures, retries, setting aside, restarts, addresses that are refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lorestream import events, ports
from lorestream.adapters.sqlite.webhooks import SqliteWebhooks
from lorestream.adapters.webhooks import post
from lorestream.adapters.webhooks.addresses import AllowedAddresses
from lorestream.adapters.webhooks.post import HttpWebhookPost
from lorestream.errors import InvalidRequest, Unavailable
from lorestream.memories import Erasure, SubjectKind
from lorestream.push import delivery, senders
from lorestream.push.feed import Feed
from lorestream.push.senders import Senders
from lorestream.webhooks import DeliveryFailed, WebhookProgress
from lorestream.wiring import Runtime
from lorestream.wiring.feeds import feed_over
from lorestream.wiring.webhooks import sending
from producers import webhooks
from producers.gateway import Gateway
from producers.webhook_schemas import WebhookBody, WebhookFilterBody
from producers.webhooks import MAX_WEBHOOKS, WebhookDesk
from query_service.encoding import encode_memory
from tests.parts import open_parts, put, running_worker
from tests.webhook_receiver import Receiver, receiving

SECRET = "s3cret"
EDGE = {"kind": "edge"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as kept:
        yield kept


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(delivery, "NOTE_INTERVAL_S", 0.02)
    monkeypatch.setattr(senders, "POLL_INTERVAL_S", 0.02)
    # A machine that stalls for longer than these makes a request that arrived a failed one, which is sent again.
    monkeypatch.setattr(post, "TIMEOUT_S", 600.0)
    monkeypatch.setattr(webhooks, "WRITE_TIMEOUT_S", 600.0)


class Clock:
    """The time of another clock, and what was added."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock
        self.ahead = 0.0

    def now(self) -> float:
        return self._clock.now() + self.ahead


@contextlib.asynccontextmanager
async def system(data: Path, **overrides: Any) -> AsyncIterator[tuple[Runtime, WebhookDesk, Feed]]:
    async with (
        open_parts(data, **overrides) as runtime,
        running_worker(runtime),
        feed_over(runtime) as feed,
        sending(runtime, feed, encode_memory),
    ):
        yield runtime, Gateway.over(runtime).webhooks, feed


async def write(runtime: Runtime, *texts: str, **fields: Any) -> None:
    puts = [put(text, event_id=text, at=runtime.clock.now(), **fields) for text in texts]
    positions = await runtime.log.append([events.encode(one) for one in puts])
    assert await runtime.watermarks.reached(positions, 60)


async def state_of(desk: WebhookDesk) -> str:
    return (await desk.all_of("default")).webhooks[0].state


async def test_memories_are_signed_sent_again_until_accepted_and_not_once_more_after_a_restart(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.statuses = [500, 302, 204]
    async with system(tmp_path, store=EDGE) as (runtime, desk, _):
        await write(runtime, "before")
        wanted = WebhookFilterBody(agent_id=["a", "c"], type="chat", min_importance=3)
        made = await desk.create("default", WebhookBody(f"{receiver.url}/in", wanted, SECRET))
        await write(runtime, "of b", agent="b", type="chat")
        await write(runtime, "dig", type="dig")
        await write(runtime, "dull", type="chat", importance=2.0)
        await write(runtime, "one", type="chat")
        await receiver.until(lambda: receiver.accepted == ["one"])
        async with asyncio.timeout(60):
            while not (await desk.all_of("default")).webhooks[0].delivered:
                await asyncio.sleep(0.01)
        [shown] = (await desk.all_of("default")).webhooks
    assert len(receiver.requests) == 3
    for headers, body in receiver.requests:
        expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Lorestream-Signature"] == f"sha256={expected}"
        [memory] = json.loads(body)["memories"]
        assert headers["Idempotency-Key"] == memory["id"]
        assert (memory["text"], memory["truncated"]) == ("one", False)
    assert made.secret is None
    assert (shown.state, shown.delivered, shown.filter.min_importance) == ("active", 1, 3)
    assert SECRET not in msgspec.json.encode(shown).decode()

    async with open_parts(tmp_path, store=EDGE) as runtime, running_worker(runtime):
        await write(runtime, "two", type="chat")
        async with feed_over(runtime) as feed, sending(runtime, feed, encode_memory):
            await write(runtime, "three", type="chat")
            await receiver.until(lambda: "three" in receiver.accepted)
        assert receiver.accepted == ["one", "two", "three"]
        desk = Gateway.over(runtime).webhooks
        await desk.remove("default", made.id)
        assert (await desk.all_of("default")).webhooks == []
        assert SECRET not in repr(runtime.ledger.webhooks.__dict__)


async def test_a_webhook_that_fails_for_a_day_is_set_aside_and_resumed_where_it_stood(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parts(tmp_path) as runtime, running_worker(runtime), feed_over(runtime) as feed:
        clock = Clock(runtime.clock)
        async with sending(replace(runtime, clock=clock), feed, encode_memory):
            desk = Gateway.over(runtime).webhooks
            bad, good = [await desk.create("default", WebhookBody(receiver.url)) for _ in range(2)]
            receiver.statuses = [503, 204]
            tried = await desk.attempt("default", bad.id)
            assert tried is not None
            assert (tried.ok, tried.error) == (False, "answered with 503")
            assert (await desk.attempt("default", good.id)).status == 204
            await desk.remove("default", good.id)

            receiver.statuses = [500] * 1000
            await write(runtime, "waits")
            await write(runtime, "is erased meanwhile", agent="erased")
            await receiver.until(lambda: len(receiver.requests) > 4)
            assert await state_of(desk) == "failing"
            erasure = Erasure("e", "default", SubjectKind.AGENT, ("erased",), runtime.clock.now())
            await runtime.ledger.add(erasure)
            clock.ahead = delivery.SET_ASIDE_AFTER_S
            async with asyncio.timeout(60):
                while await state_of(desk) != "failed":
                    await asyncio.sleep(0.01)
            set_aside = partial(runtime.metrics.registry.get_sample_value, "lorestream_webhooks_set_aside")
            async with asyncio.timeout(60):
                while set_aside() != 1:
                    await asyncio.sleep(0.01)
            receiver.statuses = [410]
            resumed = await desk.resume("default", bad.id)
            assert resumed is not None
            assert resumed.state == "active"
            async with asyncio.timeout(60):  # 410: the receiver wants no more
                while await state_of(desk) != "failed":
                    await asyncio.sleep(0.01)
            await desk.resume("default", bad.id)
            await receiver.until(lambda: receiver.accepted)
            assert receiver.accepted == ["waits"]
            assert set_aside() == 0
            assert await desk.resume("default", "unknown") is None
            assert (
                runtime.metrics.registry.get_sample_value(
                    "lorestream_webhook_deliveries_total", {"result": "set_aside"}
                )
                == 2
            )


async def test_a_webhook_is_set_aside_at_once_although_the_ledger_cannot_store_it(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_RETRY_DELAY_S", 0.02)
    refused = 0

    async def note(self: SqliteWebhooks, progress: WebhookProgress) -> None:
        nonlocal refused
        if progress.failed and refused < 5:
            refused += 1
            raise Unavailable("the disk is full")
        await stored(self, progress)

    stored = SqliteWebhooks.note
    monkeypatch.setattr(SqliteWebhooks, "note", note)
    async with system(tmp_path) as (runtime, desk, _):
        await desk.create("default", WebhookBody(receiver.url))
        receiver.statuses = [410] * 1000
        await write(runtime, "unwanted")
        async with asyncio.timeout(60):
            while await state_of(desk) != "failed":
                await asyncio.sleep(0.01)
    assert (refused, len(receiver.requests)) == (5, 1)


async def test_a_tenant_has_a_bounded_number_of_webhooks_and_sees_its_own(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        desk = Gateway.over(runtime).webhooks
        made = [await desk.create("a", WebhookBody("https://example.com/in")) for _ in range(MAX_WEBHOOKS)]
        assert len({one.secret for one in made}) == MAX_WEBHOOKS
        with pytest.raises(InvalidRequest, match="at most 20 webhooks"):
            await desk.create("a", WebhookBody("https://example.com/in"))
        assert [one.id for one in (await desk.all_of("a")).webhooks] == [one.id for one in made]
        await desk.remove("b", made[0].id)
        assert await desk.attempt("b", made[0].id) is None
        assert len((await desk.all_of("a")).webhooks) == MAX_WEBHOOKS
        with pytest.raises(InvalidRequest, match="257 characters"):
            await desk.create("b", WebhookBody("https://example.com", WebhookFilterBody(["a", "x" * 257])))
        player = WebhookFilterBody(player="Ann", agent_id="player:Ann")
        other = await desk.create("b", WebhookBody("https://example.com/in", player))
        assert "Ann" not in msgspec.json.encode(other).decode()


async def test_each_webhook_is_sent_by_the_worker_of_one_partition(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime, feed_over(runtime) as feed:
        desk = Gateway.over(runtime).webhooks
        for _ in range(8):
            await desk.create("default", WebhookBody("https://example.com/in"))

        async def end() -> dict[int, int]:
            return dict.fromkeys(range(5), 0)

        feed.log = type("Log", (), {"end": staticmethod(end)})()  # type: ignore[assignment]
        shared = delivery.Delivering(
            feed,
            runtime.ledger.webhooks,
            desk.post,
            encode_memory,
            runtime.clock,
            runtime.metrics.webhook_deliveries,
        )
        owned = [(0, 3), (1,), (2, 4)]
        sent = [set(await Senders(shared, runtime.metrics, lambda own=own: own)._wanted()) for own in owned]
        assert sorted(one for own in sent for one in own) == sorted(
            state.webhook.id for state in runtime.ledger.webhooks.all()
        )


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f::1", True),
        *((one, False) for one in ("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254")),
        *(
            (one, False)
            for one in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "::")
        ),
        *((one, False) for one in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::")),
    ],
)
def test_only_public_addresses_are_reached_unless_the_settings_say_otherwise(
    address: str, *, public: bool
) -> None:
    assert AllowedAddresses().admit(address) == public
    assert AllowedAddresses(private=True).admit(address)
    loopback = address in {"127.0.0.1", "::1"}
    assert AllowedAddresses(loopback=True).admit(address) == (public or loopback)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "example.com",
        "http://",
        "https://u:p@example.com/",
        "http://10.0.0.1/x",
        "http://[::1]/",
        "http://example.com:65536/",
        "http://example.com:0/",
        "http://example.com:-1/",
        "http://exam ple.com/",
        "http://exam%2fple.com/",
        "http://example..com/",
        "http://./",
        f"http://{'a' * 64}.com/",
        f"http://{'a.' * 127}com/",
    ],
)
def test_an_address_that_webhooks_cannot_have_is_refused_by_its_field(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        HttpWebhookPost(AllowedAddresses()).check(url)
    assert caught.value.path == "url"


@pytest.mark.parametrize(
    "host", ["example.com", "example.com.", "döner.example", "docker_host", "EXAMPLE.com:65535"]
)
def test_the_name_of_any_host_can_be_an_address(host: str) -> None:
    HttpWebhookPost(AllowedAddresses()).check(f"https://{host}/x?y=1")


async def test_a_name_that_cannot_be_looked_up_is_a_failed_delivery() -> None:
    async with HttpWebhookPost.open(AllowedAddresses()) as sender:
        with pytest.raises(DeliveryFailed):
            await sender.send(f"http://{'a' * 64}.com/", b"{}", {})


async def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_looked_up(
    receiver: Receiver,
) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    async with HttpWebhookPost.open(AllowedAddresses()) as sender:
        with pytest.raises(DeliveryFailed, match="not a public address"):
            await sender.send(url, b"{}", {})
    assert receiver.requests == []
    async with HttpWebhookPost.open(AllowedAddresses(loopback=True)) as sender:
        assert await sender.send(url, b"{}", {}) == 204
    assert receiver.requests[0][0]["Host"] == url.removeprefix("http://")

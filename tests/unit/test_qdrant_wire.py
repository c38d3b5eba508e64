"""The connection to a Qdrant server: keys, deadlines, error translation, and the number of calls per read."""

import asyncio
import contextlib
import itertools
import socket

import grpc
import numpy as np
import pytest
from qdrant_client import grpc as wire

from deploy.local.process import free_port
from lorestream.adapters.qdrant.conditions import Substring
from lorestream.adapters.qdrant.server.messages import filter_message, substring_field
from lorestream.errors import InvalidEvent, Misconfigured, Unavailable
from lorestream.memories import Condition, Field, Not, Op
from lorestream.ports import Tombstone
from tests.contracts.stored import NOW, START, everything, memory, names, nearest, put
from tests.own_time import own_time
from tests.qdrant_stand_in.catalogue import Catalogue
from tests.qdrant_stand_in.fixtures import Qdrant, at
from tests.qdrant_stand_in.points_service import PointsService
from tests.qdrant_stand_in.process import StandIn
from tests.qdrant_stand_in.refusals import RequestError
from tests.qdrant_stand_in.serving import serve_grpc


async def test_an_api_key(tmp_path):
    with StandIn(tmp_path, api_key="right") as stand_in:
        async with at(stand_in).store() as store:
            await put(store, memory("m"))
            assert await names(store) == ["m"]
        for key in (None, "wrong"):
            with pytest.raises(Misconfigured, match="LORESTREAM_STORE__API_KEY"):
                async with Qdrant(stand_in.url, stand_in.grpc_port, key).store():
                    pass
    with pytest.raises(Misconfigured, match="LORESTREAM_STORE__API_KEY"):
        async with Qdrant("http://127.0.0.1", 1, "a\nb").store():
            pass


@pytest.mark.parametrize("url", ["127.0.0.1:6333", "ftp://127.0.0.1", "http://", "http://[::1"])
async def test_invalid_urls(url):
    with pytest.raises(Misconfigured, match="LORESTREAM_STORE__URL"):
        async with Qdrant(url, 6334).store():
            pass


async def test_connection_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            async with Qdrant("http://127.0.0.1:6333", taken.getsockname()[1]).store(timeout_s=5):
                pass


async def test_the_rest_port_given_as_grpc_port(own_qdrant):
    """A likely mistake; gRPC cannot always tell it from an outage."""
    with pytest.raises((Unavailable, Misconfigured), match=str(own_qdrant.port)):
        async with Qdrant(own_qdrant.url, own_qdrant.port).store(timeout_s=5):
            pass


async def test_calls_to_a_hanging_server_end_at_the_deadline(own_qdrant):
    async with at(own_qdrant).store() as store:
        await put(store, memory("m"))
        store._engine._connection._timeout_s = 0.3  # only now: a busy machine may delay an answer by more
        own_qdrant.pause()
        for call in (
            lambda: put(store, memory("n")),
            lambda: store.put_tombstones([Tombstone("default", "a", "m", START)]),
            lambda: store.search(nearest(1)),
            lambda: store.page(everything()),
            lambda: store.get("default", "a", "m", now=NOW),
        ):
            begin = own_time()
            with pytest.raises(Unavailable, match="deadline"):
                await call()
            assert own_time() - begin < 5
        own_qdrant.resume()
        await _eventually(lambda: names(store))


async def test_reconnects_after_a_server_restart(own_qdrant):
    """The server is killed without a flush: confirmed writes survive."""
    async with at(own_qdrant).store(collection="c") as store:
        await put(store, memory("m"), memory("gone"))
        await store.put_tombstones([Tombstone("default", "a", "gone", START)])
        own_qdrant.kill()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await store.search(nearest(1))
            with pytest.raises(Unavailable):
                await put(store, memory("n"))
        own_qdrant.start()
        assert await _eventually(lambda: names(store)) == ["m"]
        await put(store, memory("gone"), memory("n"))
        assert sorted(await names(store)) == ["m", "n"]


async def _eventually(call):
    """Repeat the call until it does not raise Unavailable; return its result."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Unavailable):
                return await call()
            await asyncio.sleep(0.05)


# --- responses of a server that the stand-in does not give ---------------------------------------------------


class Scripted(PointsService):
    """The stand-in with injected errors and statuses."""

    def __init__(self, catalogue):
        super().__init__(catalogue)
        self.faults = itertools.repeat(None)
        self.status = wire.UpdateStatus.Completed
        self.calls = []
        self.written = []

    async def Upsert(self, request):  # noqa: N802
        self._note("Upsert")
        self.written.append(request)
        answer = await super().Upsert(request)
        answer.result.status = self.status
        return answer

    def Query(self, request):  # noqa: N802
        self._note("Query")
        return super().Query(request)

    def Scroll(self, request):  # noqa: N802
        self._note("Scroll")
        return super().Scroll(request)

    def Count(self, request):  # noqa: N802
        self._note("Count")
        return super().Count(request)

    def Facet(self, request):  # noqa: N802
        self._note("Facet")
        return super().Facet(request)

    def _note(self, name):
        self.calls.append(name)
        if (fault := next(self.faults)) is not None:
            raise fault


@contextlib.asynccontextmanager
async def scripted(directory, **how):
    """A scripted stand-in in this process, and its address."""
    catalogue = Catalogue(directory)
    service, port = Scripted(catalogue), free_port()
    server = await serve_grpc(catalogue, "127.0.0.1", port, None, points=service, **how)
    try:
        yield service, Qdrant("http://127.0.0.1", port)
    finally:
        await server.stop(None)
        catalogue.close()


OUTAGES = [
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNKNOWN",
    "CANCELLED",
    "FAILED_PRECONDITION",
    "NOT_FOUND",
    "DATA_LOSS",
]


async def test_translation_of_each_status(tmp_path):
    async with scripted(tmp_path) as (service, qdrant), qdrant.store() as store:
        calls = {"write": lambda: put(store, memory()), "read": lambda: store.search(nearest(1))}
        for name in OUTAGES:
            service.faults = itertools.repeat(RequestError(grpc.StatusCode[name], "said\nso"))
            for call in calls.values():
                with pytest.raises(Unavailable, match="said so") as failed:
                    await call()
                assert failed.value.retryable
        for name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            service.faults = itertools.repeat(RequestError(grpc.StatusCode[name], "said so"))
            for call in calls.values():
                with pytest.raises(Unavailable, match="LORESTREAM_STORE__API_KEY"):
                    await call()
        service.faults = itertools.repeat(RequestError(grpc.StatusCode.INVALID_ARGUMENT, "said so"))
        with pytest.raises(InvalidEvent, match="said so"):
            await calls["write"]()
        with pytest.raises(Unavailable, match="said so"):
            await calls["read"]()


async def test_a_key_changed_on_the_server_is_an_outage_until_it_matches(tmp_path):
    stand_in = StandIn(tmp_path, api_key="first")
    with stand_in:
        async with at(stand_in).store(collection="c") as store:
            await put(store, memory("m"))
            for key, fits in (("second", False), ("first", True)):
                stand_in.kill()
                stand_in.api_key = key
                stand_in.start()
                calls = (
                    lambda: put(store, memory("n")),
                    lambda: names(store),
                    lambda: store.sweep(expired_before=0, tombstones_before=0, limit=1),
                )
                for call in calls:
                    with contextlib.nullcontext() if fits else pytest.raises(Unavailable, match="API_KEY"):
                        await call()
            assert sorted(await names(store)) == ["m", "n"]


@pytest.mark.parametrize(("seconds", "milliseconds"), [("7", 7000), ("9" * 5000, 3_600_000)])
async def test_retry_after_of_a_rate_limiting_server(tmp_path, seconds, milliseconds):
    async with scripted(tmp_path) as (service, qdrant), qdrant.store() as store:
        service.faults = itertools.repeat(
            RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, "slowly", (("retry-after", seconds),))
        )
        with pytest.raises(Unavailable) as failed:
            await put(store, memory())
        assert failed.value.retry_after_ms == milliseconds


@pytest.mark.parametrize("status", ["Acknowledged", "WaitTimeout", "ClockRejected"])
async def test_a_write_that_is_only_acknowledged_is_an_outage(tmp_path, status):
    async with scripted(tmp_path) as (service, qdrant), qdrant.store() as store:
        service.status = wire.UpdateStatus.Value(status)
        with pytest.raises(Unavailable, match=status):
            await put(store, memory())


@pytest.mark.parametrize(("replication", "ordering"), [(0, "Weak"), (1, "Weak"), (2, "Medium")])
async def test_write_ordering_of_replicated_collections(tmp_path, replication, ordering):
    """Without it, replicas could apply two concurrent writes in different orders."""
    async with scripted(tmp_path) as (service, qdrant), qdrant.store(replication=replication) as store:
        await put(store, memory())
    [request] = service.written
    assert wire.WriteOrderingType.Name(request.ordering.type) == ordering
    assert request.wait


async def test_an_outage_takes_precedence_over_a_rejected_point(tmp_path):
    """The caller then repeats all batches, and sees the rejected point again."""
    async with scripted(tmp_path) as (service, qdrant), qdrant.store() as store:
        codes = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE)
        service.faults = iter([RequestError(code, "said so") for code in codes])
        with pytest.raises(Unavailable):
            await put(store, *(memory(f"m{n}") for n in range(200)))


@pytest.mark.parametrize("version", ["1.16.3", "0.11", "dev"])
async def test_versions_without_insert_only_are_rejected(tmp_path, version):
    async with scripted(tmp_path, version=version) as (_, qdrant):
        with pytest.raises(Misconfigured, match=r"1\.17 or newer"):
            async with qdrant.store():
                pass


@pytest.mark.parametrize("version", ["1.17.0", "1.18.2", "1.19.0"])
async def test_substrings_are_exact_on_every_version(tmp_path, version):
    """1.19 has no exact substring test: memories that have the field are checked in the adapter."""
    async with scripted(tmp_path, version=version) as (_, qdrant), qdrant.store() as store:
        words = ["oak", "Oak tree", "an oak", "", "pine", "oa k"]
        await put(
            store, *(memory(f"m{n}", type=word, metadata={"w": [word, 1]}) for n, word in enumerate(words))
        )
        await put(store, memory("none"), memory("number", metadata={"w": 3}))
        for field in (Field(("type",)), Field(("metadata", "w"))):
            contains = Condition(field, Op.CONTAINS, "oak")
            assert sorted(one.id for one in await store.page(everything(filter_=contains))) == ["m0", "m2"]
            hits = await store.search(nearest(5, filter=contains))
            assert [hit.memory.id for hit in hits] == ["m2", "m0"]
            assert await store.count(everything(filter_=Not(contains))) == 6


def test_substring_field_of_each_server_version():
    fields = {version: substring_field(version) for version in [(1, 17), (1, 18), (1, 19), (1, 20), (1, 21)]}
    assert list(fields.values()) == ["text", "text", None, "substring", "substring"]
    clause = Substring("type", "oak")
    assert filter_message([clause], substring_field="text").must[0].field.match.text == "oak"
    assert filter_message([clause], substring_field="substring").must[0].field.match.substring == "oak"


# --- round trips ---------------------------------------------------------------------------------------------


async def test_number_of_calls_per_read(tmp_path):
    """A search is one call, with expiry, an inexact filter and a few ties; only many ties need another."""
    async with scripted(tmp_path) as (service, qdrant), qdrant.store() as store:
        random = np.random.default_rng(1)
        rows = random.standard_normal((200, 4)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        await store.insert(
            [memory(f"m{n}", metadata={"s": 0.1 + 0.2}, expires_at=NOW + n - 3) for n in range(200)], rows
        )
        above = Condition(Field(("metadata", "s")), Op.GT, 0.3)
        service.calls.clear()
        assert len(await store.search(nearest(5, filter=above, vector=rows[9].tolist()))) == 5
        assert service.calls == ["Query"]
        service.calls.clear()
        assert len(await store.page(everything(limit=10))) == 10
        assert service.calls[0] == "Query"
        service.calls.clear()
        assert await store.agents(everything().scope, limit=5, now=NOW) == [("a", 196)]
        assert service.calls == ["Facet"]
        await put(store, *(memory(f"e{n}", agent_id="equal", timestamp=START + n) for n in range(12)))
        farther = (memory(f"f{n}", agent_id="equal", timestamp=START + 99) for n in range(20))
        await put(store, *farther, vector=(0.8, 0.6, 0, 0))
        service.calls.clear()
        hits = await store.search(nearest(5, agent="equal"))
        assert [hit.memory.id for hit in hits] == ["e11", "e10", "e9", "e8", "e7"]
        assert service.calls == ["Query"]

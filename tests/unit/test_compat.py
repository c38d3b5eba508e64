"""The classes of the original documents over the client: every example of docs/coming-from.md, and what they leave out."""

from __future__ import annotations

import contextlib
import gc
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.client import AsyncMemoryClient, MemoryClient
from lorestream.compat import (
    DistributedMemoryManager,
    MemoryRepository,
    RedisAgentMemory,
    TinyWorldVectorStore,
)
from lorestream.errors import Unavailable
from tests.processes import LorestreamProcess, running
from tests.scripted_server import refused, scripted_server

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
_EXAMPLE = re.compile(
    r"<!-- runnable -->\n```python\n(.*?)```\n\n<!-- prints -->\n```text\n(.*?)```\n", re.DOTALL
)
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
ADDRESS = "http://127.0.0.1:8080"


def _examples() -> list[tuple[str, str, str]]:
    """Heading, code and expected output of each section that has an example."""
    parts = _HEADING.split(PAGE.read_text(encoding="utf-8"))[1:]
    return [
        (heading, *found)
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
        for found in _EXAMPLE.findall(text)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LorestreamProcess]:
    """One real server for all tests of this file."""
    with running(tmp_path_factory.mktemp("lorestream"), {"LORESTREAM_EMBEDDER__KIND": "hash"}) as process:
        yield process


@pytest.fixture
def client(server: LorestreamProcess) -> Iterator[MemoryClient]:
    with MemoryClient(server.url) as memories:
        yield memories


def test_each_of_the_five_documents_has_an_example():
    assert len(_examples()) == 5


@pytest.mark.parametrize("example", _examples(), ids=lambda example: example[0])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the examples close nothing: their process would end
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_examples_run_and_print_the_expected_output(
    example: tuple[str, str, str], server: LorestreamProcess, monkeypatch: pytest.MonkeyPatch
):
    _, code, prints = example
    monkeypatch.setenv("LORESTREAM_URL", server.url)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code.replace(ADDRESS, server.url), str(PAGE), "exec"), {"__name__": "example"})
    gc.collect()  # here, where the warnings are ignored, and not in a later test
    wanted = ".*".join(re.escape(part) for part in prints.strip().split("…"))
    assert re.search(wanted, output.getvalue(), re.DOTALL), output.getvalue()


def test_a_metadata_key_of_the_caller_hides_no_field(client: MemoryClient):
    """Metadata overlays an event's fields: a key `name` of the caller's would take the place of the speaker's name."""
    repository = MemoryRepository(client)
    repository.save_message("plato_001", "Plato", "Hello", 1, metadata={"name": "x", "role": "y"})
    (message,) = repository.get_recent_messages("plato_001")
    assert (message["character_name"], message["message_type"]) == ("Plato", "reflection")
    assert message["metadata"] == {"name": "x", "role": "y"}
    states = RedisAgentMemory(encode=bytes, decode=bytes, client=client)
    one = states.store_agent_memory("plato_001", b"\x00\xff", metadata={"bytes": "AAAA", "codec": 1})
    found = states.retrieve_agent_memory("plato_001", one)
    assert (found["state"], found["metadata"]) == (b"\x00\xff", {"bytes": "AAAA", "codec": 1})


def test_a_field_of_a_character_is_replaced_and_the_others_stay(client: MemoryClient):
    """A merge patch would keep the goals of before beside the new ones."""
    repository = MemoryRepository(client)
    assert repository.get_character_state("zeno_001") is None
    repository.update_character_state("zeno_001", "Zeno", 1, 1.0, goals={"a": 1}, beliefs={"b": 2})
    repository.update_character_state("zeno_001", "Zeno", 2, 2.0, goals={"c": 3})
    state = repository.get_character_state("zeno_001")
    assert state is not None
    assert (state["goals"], state["beliefs"], state["current_tick"]) == ({"c": 3}, {"b": 2}, 2)


def test_a_state_that_cannot_be_decoded_is_left_out(client: MemoryClient, caplog: pytest.LogCaptureFixture):
    states = RedisAgentMemory(encode=str.encode, decode=bytes.decode, client=client)
    bad = client.put_state("miner_2", b"\xff", wait_s=5).ids[0]
    states.store_agent_memory("miner_2", "good")
    assert [one["state"] for one in states.get_recent_memories("miner_2")] == ["good"]
    assert f"State {bad}" in caplog.text


def test_the_encoder_of_an_agent_is_made_once(client: MemoryClient):
    states = RedisAgentMemory(encode=bytes, decode=bytes, client=client)
    assert states.encoder_config("miner_3", {"input_dim": 4, "latent_dim": 2})["input_dim"] == 4
    assert states.encoder_config("miner_3", {"input_dim": 9, "latent_dim": 2})["input_dim"] == 4


def _entity_page(ids: str, cursor: str | None) -> tuple[int, Any]:
    entities = [
        {"type": "t", "id": f"n:{one}", "version": 1, "data": {"id": one}, "created_at": 1, "updated_at": 1}
        for one in ids
    ]
    return 200, {"entities": entities, "next_cursor": cursor, "fresh": True}


async def test_entities_are_read_on_where_a_page_ends_early():
    """A page also ends at a number of bytes."""
    with scripted_server(
        _entity_page("ab", "c1"), _entity_page("c", "c2"), _entity_page("d", "c3")
    ) as server:
        async with DistributedMemoryManager(namespace="n", client=AsyncMemoryClient(server.url)) as manager:
            found = await manager.load_entities_by_prefix("t", limit=4)
    assert [one["id"] for one in found] == ["a", "b", "c", "d"]
    asked = [request["path"].partition("?")[2] for request in server.requests]
    assert asked == ["prefix=n%3A&limit=4", "prefix=n%3A&limit=2&cursor=c1", "prefix=n%3A&limit=1&cursor=c2"]


def test_clearing_one_type_is_refused_because_it_would_clear_all(client: MemoryClient):
    store = TinyWorldVectorStore(client)
    kept = store.add_memory("crito_001", "A debt of a cock", memory_type="general")
    with pytest.raises(ValueError, match="memory_type"):
        store.clear_character_memories("crito_001", "long-term")
    assert client.get(kept, "crito_001").text == "A debt of a cock"
    assert store.get_memory_stats("crito_001")["total_memories"] == 1
    assert store.clear_character_memories("crito_001")


LATE = (202, {"event_id": "e", "token": "t", "applied": False})
NOT_YET = (404, refused("not_found"))
CHANGED = (200, {"applied": False, "code": "version_conflict", "current": 2})


def character(version: int, **data: str) -> tuple[int, Any]:
    return 200, {"type": "character", "id": "plato_001", "version": version, "data": data}


def test_an_update_that_is_refused_after_the_wait_is_made_again():
    written = (200, {"event_id": "e", "token": "t", "applied": True, "version": 3})
    script = [character(1), LATE, CHANGED, character(2, mood="calm"), written]
    with scripted_server(*script) as server, MemoryClient(server.url) as client:
        MemoryRepository(client).update_character_state("plato_001", "Plato", 1, 0.0, goals="iron")
    assert server.requests[2]["path"].startswith("/v1/entities/character/plato_001/writes/")
    last = server.requests[4]["body"]
    assert (last["if_version"], last["data"]["mood"], last["data"]["goals"]) == (2, "calm", "iron")


def test_an_update_whose_outcome_is_not_known_raises_unavailable():
    with (
        scripted_server(character(1), LATE, NOT_YET) as server,
        MemoryClient(server.url) as client,
        pytest.raises(Unavailable, match="not applied yet"),
    ):
        MemoryRepository(client).update_character_state("plato_001", "Plato", 1, 0.0)
    assert len(server.requests) == 3


def test_an_encoder_that_was_refused_after_the_wait_is_that_of_the_other_program():
    script = [NOT_YET, LATE, CHANGED, character(1, codec="theirs")]
    with scripted_server(*script) as server, MemoryClient(server.url) as client:
        states = RedisAgentMemory[bytes](encode=bytes, decode=bytes, client=client)
        assert states.encoder_config("plato_001", {"codec": "mine"}) == {"codec": "theirs"}

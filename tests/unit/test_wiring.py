"""The composition root: what it opens, what it refuses, each refusal one line that says what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import structlog

from lorestream import events
from lorestream.errors import Misconfigured, ModelMismatch, ModelMissing
from lorestream.settings import load_settings
from lorestream.wiring import open_gateway, open_query, open_worker
from tests.parts import open_parts, pipeline_over, put, records, texts


async def test_edge_remembers_and_memory_forgets(tmp_path: Path) -> None:
    for kind, left in (("edge", ["hello"]), ("memory", [])):
        for turn in range(2):
            async with open_parts(tmp_path / kind, store={"kind": kind}) as runtime:
                if turn == 0:
                    pipeline = pipeline_over(runtime)
                    await pipeline.apply(await pipeline.prepare(records(put("hello"))))
                    assert await texts(runtime) == ["hello"]
                else:
                    assert await texts(runtime) == left


async def test_a_data_directory_serves_one_process_at_a_time(tmp_path: Path) -> None:
    async with open_parts(tmp_path, store={"kind": "edge"}):
        with pytest.raises(Misconfigured, match=rf"in use by process {os.getpid()}.*--data"):
            async with open_parts(tmp_path, store={"kind": "edge"}):
                pass


async def test_a_collection_refuses_another_model(tmp_path: Path) -> None:
    async with open_parts(tmp_path, store={"kind": "edge"}):
        pass
    with pytest.raises(ModelMismatch, match="hash-v1-384"):
        async with open_parts(tmp_path, store={"kind": "edge"}, embedder={"kind": "hash", "dim": 64}):
            pass


async def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="lorestream model prepare"):
        async with open_parts(tmp_path, models_dir=tmp_path / "models", embedder={"kind": "auto"}):
            pass


async def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match=r"cannot be written.*--data"):
        async with open_parts(tmp_path / "file" / "data"):
            pass


async def test_a_key_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="keys"):
        async with open_parts(tmp_path, api_keys_file=tmp_path / "keys"):
            pass


@pytest.mark.parametrize("open_service", [open_gateway, open_worker, open_query])
async def test_a_service_of_its_own_needs_a_shared_log(tmp_path: Path, open_service: Any) -> None:
    with pytest.raises(Misconfigured, match=r"LORESTREAM_LOG__BOOTSTRAP=.*lorestream up"):
        async with open_service(load_settings(data_dir=tmp_path)):
            pass


@pytest.mark.parametrize("open_service", [open_gateway, open_query])
async def test_what_sees_players_names_needs_the_key_that_all_share(
    tmp_path: Path, open_service: Any
) -> None:
    shared = {"bootstrap": "127.0.0.1:1"}, {"url": "http://127.0.0.1:1"}
    chosen = load_settings(data_dir=tmp_path, log=shared[0], store=shared[1])
    with pytest.raises(Misconfigured, match="LORESTREAM_PLAYER_KEY"):
        async with open_service(chosen):
            pass


async def test_the_player_key_is_made_once_and_kept(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        async with open_parts(tmp_path, player_key=None) as runtime:
            names.add(runtime.pseudonyms.player("default", "alice"))
    assert len(names) == 1
    assert (tmp_path / "player.key").stat().st_mode & 0o777 == 0o600
    async with open_parts(tmp_path / "elsewhere", player_key=None) as runtime:
        assert runtime.pseudonyms.player("default", "alice") not in names


async def test_acceptance_goes_on_behind_the_last_record(tmp_path: Path) -> None:
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        assert runtime.last_accepted_at == 0
        await runtime.log.append([events.encode(put("x", at=4_000_000_000.0))])
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        assert runtime.last_accepted_at == 4_000_000_000.0


async def test_a_removed_player_key_is_refused_until_it_is_back(tmp_path: Path) -> None:
    kept = {"store": {"kind": "edge"}, "player_key": None}
    async with open_parts(tmp_path, **kept) as runtime:
        alice = runtime.pseudonyms.player("default", "alice")
    (tmp_path / "player.key").rename(tmp_path / "copy")
    with pytest.raises(Misconfigured, match=r"player\.key is missing"):
        async with open_parts(tmp_path, **kept):
            pass
    # The two things that the message says: put it back, or, when it is lost, set a new one under another id.
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, **kept | {"player_key": "k2:new"}) as runtime:
            assert runtime.pseudonyms.player("default", "alice").startswith("k2:")
    assert [line["missing"] for line in lines if line["log_level"] == "warning"] == [["k1"]]
    (tmp_path / "copy").rename(tmp_path / "player.key")
    async with open_parts(tmp_path, **kept) as runtime:
        assert runtime.pseudonyms.player("default", "alice") == alice


async def test_another_player_key_under_the_same_id_is_refused(tmp_path: Path) -> None:
    """It is another key than the one that the log was written with: no name would match what is stored."""
    edge = {"kind": "edge"}
    async with open_parts(tmp_path, store=edge, player_key="k1:old"):
        pass
    for other in ("k1:other", "other", "k2:new,k1:other"):
        with pytest.raises(Misconfigured, match=r"k1.*k2:NEW,k1:OLD") as refused:
            async with open_parts(tmp_path, store=edge, player_key=other):
                pass
        assert "\n" not in str(refused.value)
        assert "other" not in str(refused.value).replace("another", "")
    with structlog.testing.capture_logs() as lines:
        for given in ("k2:new,k1:old", "k1:old,k2:new"):
            async with open_parts(tmp_path, store=edge, player_key=given):
                pass
    assert not [line for line in lines if line["log_level"] == "warning"]

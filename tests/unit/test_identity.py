"""Pseudonyms, memory ids and agent keys: the same input gives the same id, different inputs different ids."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.errors import Misconfigured
from lorestream.identity import MAX_NAME_COLONS, MEMORY_NAMESPACE, PlayerKey, Pseudonyms, agent_key, memory_id

TWO = Pseudonyms.parse("new:one, old:two")
NAMES = st.text(min_size=1, max_size=20)


def test_a_pseudonym_is_the_hmac_of_tenant_and_name() -> None:
    digest = hmac.new(b"secret", b"default\0Bob", hashlib.sha256).hexdigest()
    assert Pseudonyms.parse("k7:secret").player("default", "Bob") == f"k7:{digest}"


def test_the_first_key_is_used_and_all_keys_match() -> None:
    new, old = TWO.players("default", "Bob")
    assert new == TWO.player("default", "Bob") == Pseudonyms.parse("new:one").player("default", "Bob")
    assert old == Pseudonyms.parse("old:two").player("default", "Bob")


@given(NAMES, NAMES)
def test_tenants_do_not_share_pseudonyms(tenant: str, name: str) -> None:
    assert TWO.player(tenant, name) != TWO.player(tenant + "x", name)
    assert name not in {TWO.player(tenant, name), *TWO.players(tenant, name)}


def test_a_pseudonym_is_not_replaced_again() -> None:
    for stored in TWO.players("default", "Bob"):
        assert TWO.player("default", stored) == stored
        assert TWO.players("default", stored) == (stored,)
        assert TWO.agent("default", f"player:{stored}") == (f"player:{stored}", stored)
    foreign = Pseudonyms.parse("other:three").player("default", "Bob")
    assert TWO.player("default", foreign) != foreign


@pytest.mark.parametrize("prefix", ["player:", "s:player:", "a:b:player:", "player:player:", "\n:player:"])
def test_an_agent_named_after_a_player_is_stored_under_the_pseudonym(prefix: str) -> None:
    stored = TWO.player("default", "Bob")
    assert TWO.agent("default", f"{prefix}Bob") == (prefix + stored, stored)
    assert TWO.agents("default", f"{prefix}Bob") == tuple(
        prefix + each for each in TWO.players("default", "Bob")
    )


@pytest.mark.parametrize(
    "agent_id", ["npc", "npc:1", "player:", "player", ":Bob", "players:Bob", "npcplayer:Bob", "Player:Bob"]
)
def test_other_agents_keep_their_names(agent_id: str) -> None:
    for player in (None, "", "Ann", "ob", "r:Bob", agent_id):
        assert TWO.agent("default", agent_id, player) == (agent_id, None)
        assert TWO.lasting_agent("default", agent_id, player) == agent_id
    assert TWO.agents("default", agent_id)[0] == agent_id


def test_a_read_covers_an_agent_with_a_role_in_every_form_that_events_give_it() -> None:
    for name in ("Bob", "steam:7", "a:b:c"):
        stored = {TWO.agent("default", f"smith:{name}", player)[0] for player in (name, None)}
        assert stored | {TWO.lasting_agent("default", f"smith:{name}", name)} <= {
            *TWO.agents("default", f"smith:{name}")
        }
    assert TWO.agents("default", "npc") == ("npc",)
    assert len(TWO.agents("default", ":".join("x" * 200))) == 1 + 2 * (MAX_NAME_COLONS + 1)
    [listed] = {TWO.agent("default", "smith:Bob", "Bob")[0]}
    assert TWO.agents("default", listed) == (listed,)


@given(NAMES, NAMES)
def test_names_may_have_any_characters(tenant: str, name: str) -> None:
    assert len({*TWO.players(tenant, name)}) == 2
    assert (
        len({TWO.player(tenant, name), TWO.player(tenant, name + "\0"), TWO.player(tenant, name + " ")}) == 3
    )


@pytest.mark.parametrize(
    "text", ["", " ", ",", "one,two", "k:", ":x", "k1:a,k1:b", "k 1:a", "ä:b", f"{'k' * 33}:a"]
)
def test_wrong_keys_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Misconfigured, match="LORESTREAM_PLAYER_KEY"):
        Pseudonyms.parse(text)


def test_a_single_key_gets_kid_k1_and_a_secret_may_have_a_colon() -> None:
    assert Pseudonyms.parse("secret").player("t", "n") == Pseudonyms.parse("k1:secret").player("t", "n")
    assert Pseudonyms.parse("k1:a:b").player("t", "n") == Pseudonyms([PlayerKey("k1", b"a:b")]).player(
        "t", "n"
    )


def test_a_memory_id_is_the_uuid5_of_the_json_array() -> None:
    parts = ["t", "s", "a", "ä\N{SNOWMAN}"]
    name = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    assert memory_id("t", "s", "a", "ä\N{SNOWMAN}") == str(uuid.uuid5(MEMORY_NAMESPACE, name))


@given(st.lists(st.text('",[]\\:ab', max_size=4), min_size=8, max_size=8))
def test_different_parts_give_different_ids(parts: list[str]) -> None:
    one, other = parts[:4], parts[4:]
    assert (memory_id(*one) == memory_id(*other)) == (one == other)
    assert (agent_key(*one[:2]) == agent_key(*other[:2])) == (one[:2] == other[:2])


def test_an_agent_key_is_a_json_array() -> None:
    assert json.loads(agent_key("t", 'a"b')) == ["t", 'a"b']

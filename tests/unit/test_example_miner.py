"""The example that learns: its pure parts, and a short run against the whole application in this process."""

import random
from xml.etree import ElementTree as ET

import pytest

from examples.miner.cave import DEFAULT_CAVE, LAVA, ORE, STEP, Cave, Step, best, play, targets
from examples.miner.learn import POLICY, TABLE, Lessons, learn
from examples.miner.picture import Bucket, svg
from tests.whole_app import open_app

SMALL = Cave(("M.L", "..O"))


def test_the_default_cave_has_a_way_that_ends_at_the_ore():
    reached = {DEFAULT_CAVE.position("M")}
    frontier = [*reached]
    while frontier:
        x, y = frontier.pop()
        for near in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if near not in reached and DEFAULT_CAVE.cell(*near) not in "#L":
                reached.add(near)
                frontier.append(near)
    assert DEFAULT_CAVE.position("O") in reached


@pytest.mark.parametrize(
    ("state", "action", "reward", "following"),
    [
        ("0,0", "east", STEP, "1,0"),
        ("0,0", "north", STEP, "0,0"),
        ("1,0", "east", LAVA, None),
        ("0,0", "dig", STEP, "0,0"),
        ("2,1", "dig", ORE, None),
    ],
)
def test_an_action_leads_to(state, action, reward, following):
    assert SMALL.act(state, action) == Step(state, action, reward, following)


def test_one_episode_teaches_the_whole_way():
    way = [SMALL.act("0,1", "east"), SMALL.act("1,1", "east"), SMALL.act("2,1", "dig")]
    found = dict(targets(way, {}, alpha=0.5, gamma=0.9))
    assert found == {way[2]: ORE, way[1]: STEP + 0.9 * 15.0, way[0]: STEP + 0.9 * (0.5 * (STEP + 0.9 * 15.0))}


def test_an_episode_that_finds_nothing_ends():
    steps = play(SMALL, {}, explore=0.0, dice=random.Random(1))
    assert {step.action for step in steps} == {best({}, "0,0")}
    assert steps[-1].following is not None


def test_the_picture_is_a_picture():
    buckets = [Bucket(0, -50, -80, -20), Bucket(10, 20, 10, 27)]
    root = ET.fromstring(svg(SMALL, buckets, {"0,0": "south", "2,1": "dig"}, subtitle="two servers"))
    kinds = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert kinds.count("rect") == 1 + 6
    assert kinds.count("polyline") == kinds.count("circle") == 1


async def test_servers_that_share_a_table_lose_no_update_and_the_miner_learns(tmp_path):
    lessons = Lessons(servers=3, episodes=12, cave=SMALL)
    async with open_app(tmp_path) as app, app.client() as client:
        outcome = await learn(client, lessons)
        table = (await client.q_values(lessons.agent, SMALL.states(), table=TABLE)).values
        character = await client.entity("character", lessons.agent)
        rewards = await client.rewards(lessons.agent, 100)
        assert outcome.policy
        assert (await client.policy(lessons.agent, name=POLICY)).data
    assert sum(value.n for actions in table.values() for value in actions.values()) == outcome.updates
    assert [bucket.episode for bucket in outcome.buckets] == list(range(12))
    assert rewards.total == 3 * 12
    first, last = outcome.buckets[0], outcome.buckets[-1]
    assert last.mean > first.mean
    assert [step.action for step in outcome.last].count("dig") == 1
    assert outcome.last[-1].reward == ORE
    assert len(outcome.last) == 4
    assert character.version == 2
    assert character.data["name"] == "Miner"
    assert character.data["beliefs"]["policy version"] == 1

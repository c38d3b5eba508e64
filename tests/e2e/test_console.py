"""The console in a real browser, over a `lorestream up` with the demo village."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from lorestream.access.key_file import KeyScope
from lorestream.client import Event, MemoryClient
from tests.api_keys import bearer
from tests.console.browser import Watched, chromium
from tests.console.views import VIEWS, View
from tests.console.village import AGENT, fill, spoil
from tests.processes import HASH, PLAYER_KEY, running

if TYPE_CHECKING:
    from playwright.sync_api import Response

NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Lorestream that holds the village of the last day."""
    data = tmp_path_factory.mktemp("console")
    asyncio.run(spoil(data))
    with running(data, HASH | PLAYER_KEY) as process:
        fill(process.url)
        yield process.url


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[Watched]:
    """One page for all tests: a new one each would take half a second of CPU time."""
    with chromium() as browser:
        context = browser.new_context(viewport=WIDE, reduced_motion="reduce")  # type: ignore[arg-type]
        yield Watched(context.new_page(), url)
        context.close()


@pytest.fixture
def watched(shared: Watched) -> Iterator[Watched]:
    shared.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    yield shared
    faults, shared.faults[:] = [*shared.faults], []
    assert faults == []


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_view(view: View, watched: Watched):
    """Each view shows its data, without errors, without other addresses, for all, and in a narrow window."""
    page = watched.open(view.place, view.shows)
    assert watched.violations(contrast=False) == []
    assert not watched.is_wider_than_the_window()
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert not watched.is_wider_than_the_window()
    assert page.locator("main :is(img, script, b)").count() == 0, "a text became markup"
    assert page.title().endswith("Lorestream")


def test_a_memory_is_asked_for_and_explained(watched: Watched):
    """From the list of agents, by keyboard, to an answer, its parts, and why another memory is not in it."""
    page = watched.open("", "a:has-text('npc:smith-1')")
    page.keyboard.press("/")
    page.keyboard.type(AGENT)
    page.keyboard.press("Enter")
    page.locator(".line", has_text="The day ends.").click()
    page.get_by_text("Why is it found?").click()
    page.locator("text=exactly one of").or_(page.locator(".found li")).first.wait_for()
    page.get_by_label("Question").fill("Can you mend my pickaxe?")
    page.get_by_label("Number of memories").fill("1")
    page.keyboard.press("Enter")
    page.locator(".found li", has_text="mend my pickaxe").wait_for()
    page.locator("text=not found").wait_for()
    page.locator("code", has_text=re.compile("^k$")).wait_for()
    page.get_by_role("button", name="Show").click()
    page.locator("h3", has_text="keyword").wait_for()
    page.get_by_role("button", name="Lua").click()
    assert 'query = "Can you mend my pickaxe?"' in page.locator("pre[aria-label=Lua]").inner_text()


def test_numbers_behind_the_views(watched: Watched):
    page = watched.open("#/ask", "h1")

    def of(module: str, expression: str) -> object:
        return page.evaluate(f"import('/console/{module}.js').then(it => {expression})")

    numbers = "[[100, 0], [0.004, 2], [-0.0001, 2], [1.5, 1], [12.3456, 2]].map(each => it.decimal(...each))"
    assert of("core/format", numbers) == ["100", "0", "0", "1.5", "12.35"]
    assert of("core/format", "[0, 1023, 1024, 10 * 1024 ** 2].map(it.bytes)") == [
        "0 B",
        "1023 B",
        "1 KiB",
        "10 MiB",
    ]
    durations = of("core/format", "[0.0005, 0.25, 60, 7200, 86400].map(it.duration)")
    words = of("core/format", """["npc:smith-1", "a'b; rm -rf $HOME", ""].map(it.shellWord)""")
    assert words == ["npc:smith-1", shlex.quote("a'b; rm -rf $HOME").replace("'\"'\"'", "'\\''"), "''"]
    numbers = """["1.5", " -2 ", "", " ", "abc", "NaN", undefined].map(text => it.numberOf(text) ?? null)"""
    assert of("core/router", numbers) == [1.5, -2, None, None, None, None, None]
    assert durations == ["0.5 ms", "250 ms", "60 s", "2 h", "24 h"]
    assert of(
        "views/agent/diff", "it.differences({a: 1, b: {c: [2]}, e: {}}, {b: {c: [3]}, d: null, e: {}})"
    ) == [
        {"path": "a", "before": "1", "after": None},
        {"path": "b.c[0]", "before": "2", "after": "3"},
        {"path": "d", "before": None, "after": "null"},
    ]
    assert of("views/agent/counts", "[1, 161, 86400, 1e9].map(it.stepFor)") == [1, 2, 600, 7776000]
    counts = [
        {"start": 10, "group": "dig", "count": 3},
        {"start": 20, "group": "chat", "count": 1},
        {"start": 20, "group": "dig", "count": 2},
    ]
    bars = of("views/agent/counts", f"it.stacked({json.dumps(counts)}, 12, 25, 10).data")
    assert bars == [[15, 25], [3, 3], [3, 2]], "the largest type is at the bottom, and the others stand on it"
    cells = of(
        "views/map/request", "[it.cellFor({x: [-900, 900], z: [0, 5]}), it.cellFor({x: [0, 3], z: [0, 3]})]"
    )
    assert cells == [32, 1]
    search = {
        "agent": "a",
        "q": "x",
        "mode": "dense",
        "k": "7",
        "x": "1",
        "r": "2",
        "imp": "0.5",
        "type": "dig",
    }
    search["filters"] = '{"a": 1}'
    assert of("views/ask/request", f"it.searchOf({json.dumps(search)})") == {
        "agent_id": "a",
        "query": "x",
        "mode": "dense",
        "k": 7,
        "near": {"x": 1, "radius": 2},
        "explain": True,
        "filters": {"a": 1, "type": "dig"},
        "weights": {"importance": 0.5},
    }
    lacking = {"agent": "a", "x": "1", "normalise": "1"}
    assert of("views/ask/request", f"it.searchOf({json.dumps(lacking)})") == {
        "agent_id": "a",
        "k": 5,
        "near": {"x": 1},
        "weights": {"normalise": True},
        "explain": True,
    }, "the service says that a radius is missing, rather than that nothing is near"
    parts = of(
        "views/ask/request", "it.partsOf({score_details: {relevance: 0.8, recency: 0.5}}, {recency: 0.25})"
    )
    assert parts == [["relevance", pytest.approx(0.64)], ["recency", pytest.approx(0.1)]]


def test_an_error_of_something_else_is_told_by_its_status(watched: Watched):
    page = watched.open("#/ask", "h1")
    for error in (None, "Bad Gateway", {}):
        new = "error => import('/console/core/api.js').then(it => new it.ApiError(502, error).message)"
        assert page.evaluate(new, error) == "the service answered with status 502"


def test_what_is_typed_into_a_search_stays_until_it_is_asked(watched: Watched):
    """Also while another part of the address changes, and the rare fields stay in sight when the last one is emptied."""
    page = watched.open(f"#/ask?agent={AGENT}&q=anvil&min=0.001", ".found li")
    page.get_by_label("Least score").fill("")
    page.get_by_label("Type", exact=True).fill("chat")
    page.get_by_label("Type", exact=True).fill("")
    page.get_by_label("Question").fill("where is the iron")
    page.locator(".found li button").first.click()
    page.locator(".tag.ok", has_text="found").wait_for()
    assert page.get_by_label("Question").input_value() == "where is the iron"
    assert page.get_by_label("Least score").is_visible()
    assert page.get_by_label("Least score").input_value() == ""
    watched.open(f"#/ask?agent={AGENT}&q=ore", ".found li")
    page.wait_for_function("document.querySelector('[data-search]').value === 'ore'")


def test_the_map_of_another_agent_shows_its_memories(watched: Watched, url: str):
    far = {"agent_id": "npc:far", "text": "an island", "pos": {"x": 50_000, "y": 1, "z": -20_000}}
    written = httpx2.post(
        f"{url}/v1/events?wait=indexed&timeout_ms=60000", json={"events": [far]}, timeout=90
    )
    assert written.json()["indexed"]
    page = watched.open(f"#/map?agent={AGENT}", ".map canvas")
    page.get_by_label("Agent").fill("npc:far")
    page.locator(".stat", has_text="Memories with a position").get_by_text("1", exact=True).wait_for()
    box = page.locator(".map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator("text=/^x (49|50),?[0-9]{3}, z -(19|20),?[0-9]{3}$/").wait_for()


def test_a_player_is_no_link_to_an_agent(watched: Watched, url: str):
    event = {"agent_id": "npc:guard", "text": "Ash came by", "player": "Ash", "about": ["npc:miner-1"]}
    asked = httpx2.post(
        f"{url}/v1/events?wait=indexed&timeout_ms=60000", json={"events": [event]}, timeout=90
    )
    assert asked.json()["indexed"]
    page = watched.open("#/agents/npc%3Aguard/relations", "td:has-text('k1:')")
    assert page.locator("td a").all_inner_texts() == ["npc:miner-1"]


def test_single_keys_can_be_turned_off(watched: Watched):
    page = watched.open("#/ask", "h1:has-text('Ask')")
    switch = page.get_by_label("Single keys are shortcuts")
    page.keyboard.press("?")
    switch.uncheck()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    try:
        for key in ("k", "?", "/"):
            page.keyboard.press(key)
        assert page.locator("dialog").count() == 0
        assert page.evaluate("document.activeElement.tagName") != "INPUT"
    finally:
        page.get_by_role("button", name="Shortcuts").click()
        switch.check()
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="detached")
    page.keyboard.press("k")
    page.locator("dialog input").wait_for()
    page.keyboard.press("Escape")


def test_a_dead_letter_is_chosen_by_a_button(watched: Watched):
    page = watched.open("#/dead?id=0-0", "pre:has-text('rubbish')")
    button = page.get_by_role("button", name="0-1", exact=True)
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    page.locator("h2", has_text="Dead letter 0-1").wait_for()
    page.locator("tr", has=page.locator("code", has_text="0-0")).locator("td").nth(2).click()
    page.locator("h2", has_text="Dead letter 0-0").wait_for()


TRICKY = {
    "agent_id": AGENT,
    "query": 'O\'Ash "said" \\ it:\n$HOME',
    "k": 3,
    "filters": {"NOT": {"type": ["dig", "chat"]}},
    "mode": "hybrid",
}


def test_copied_searches_run(watched: Watched, url: str):
    """As a command, in Python and in Lua they ask for what was asked here, also with quotes and line breaks."""
    page = watched.open("#/ask", "h1")
    copies = page.evaluate(
        "body => import('/console/views/ask/copies.js').then(it => it.copiesOf(body))", TRICKY
    )
    found = httpx2.post(f"{url}/v1/memories/search", json=TRICKY).json()["memories"]
    said = subprocess.run(["bash", "-c", copies["curl"]], capture_output=True, check=True, timeout=30).stdout
    assert json.loads(said)["memories"] == found
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(copies["Python"], {})
    assert [line.partition(" ")[2] for line in printed.getvalue().splitlines()] == [
        one["text"] for one in found
    ]
    assert json.loads(copies["MCP"])["params"]["arguments"] == TRICKY
    if lua := shutil.which("lua5.1") or shutil.which("lua"):
        stub = "lorestream = {recall = function(agent, opts) io.write(agent, '|', opts.query, '|', opts.filters.NOT.type[2]) end}"
        said = subprocess.run(
            [lua, "-e", f"{stub}\n{copies['Lua']}"], capture_output=True, check=True, timeout=30
        )
        assert said.stdout.decode() == f"{AGENT}|{TRICKY['query']}|chat"


@pytest.mark.soak
def test_a_circle_is_drawn_on_the_map(watched: Watched):
    page = watched.open(f"#/map?agent={AGENT}", ".map canvas")
    page.get_by_role("button", name="Draw a circle").click()
    box = page.locator(".map").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 20)
    page.mouse.move(x + 60, y)
    page.mouse.up()
    page.locator(".plain li").first.wait_for()
    assert float(parse_qs(urlsplit(page.url).fragment.partition("?")[2])["r"][0]) > 1


def test_an_agent_is_erased_with_its_name_typed(watched: Watched, url: str):
    page = watched.open("#/agents/npc%3Atrader-1/relations", ".tabs")
    page.get_by_role("button", name="Erase").click()
    erase = page.get_by_role("button", name="Erase for ever")
    page.keyboard.type("npc:trader")
    assert erase.is_disabled()
    page.keyboard.type("-1")
    erase.click()
    page.locator("text=Erased: no read").wait_for()
    page.locator("a:has-text('npc:smith-1')").first.wait_for()
    assert httpx2.get(f"{url}/v1/agents/npc%3Atrader-1/summary").json()["total"] == 0


def test_an_erasure_whose_dialog_is_closed_goes_on(watched: Watched):
    """It is told of at the edge of the page, and takes nobody away from where they are by then."""
    page = watched.open(f"#/agents/{AGENT}/relations", ".tabs")
    states = ["running"]
    page.route("**/v1/agents/*", lambda route: route.fulfill(json={"erasure_id": "e1"}, status=202))
    page.route("**/v1/erasures/e1", lambda route: route.fulfill(json={"state": states[0]}))
    try:
        page.get_by_role("button", name="Erase").click()
        page.keyboard.type(AGENT)
        page.get_by_role("button", name="Erase for ever").click()
        page.locator("text=Closing this does not stop it.").wait_for()
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="detached")
        states[0] = "done"
        page.locator(f"text=no read shows anything of {AGENT}").wait_for()
        assert urlsplit(page.url).fragment == f"/agents/{AGENT}/relations"
    finally:
        page.unroute_all()


def test_a_memory_appears_when_it_is_findable(watched: Watched, url: str):
    """The stream, its filter by words, and a pause that holds back what comes."""
    page = watched.open("#/live?type=omen", "text=listening")
    text = "a <b>comet</b> passed"

    def write(text: str) -> None:
        event = {"agent_id": "npc:seer-1", "type": "omen", "text": text}
        assert httpx2.post(f"{url}/v1/events", json={"events": [event]}).status_code == 202

    write(text)
    line = page.locator(".rows li")
    line.filter(has_text=text).wait_for()
    assert page.locator(".rows b").count() == 0
    assert watched.violations(contrast=False) == []
    page.get_by_role("button", name="Pause").click()
    write("an owl called")
    page.get_by_role("button", name="Go on (1 new)").click()
    line.filter(has_text="an owl called").wait_for()
    page.get_by_label("Words").fill("comet")
    line.filter(has_text="an owl called").wait_for(state="detached")
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert not watched.is_wider_than_the_window()


def test_another_key_begins_the_stream_anew(watched: Watched, url: str):
    """Nothing that came with the key before stays in sight, and it is not used any more."""
    watched.open("#/ask", "h1:has-text('Ask')")  # away from a stream that another test may have left open
    page = watched.open("#/live?type=sign", "text=listening")
    event = {"agent_id": "npc:seer-1", "type": "sign", "text": "a crow called"}
    assert httpx2.post(f"{url}/v1/events", json={"events": [event]}).status_code == 202
    line = page.locator(".rows li")
    line.filter(has_text="a crow called").wait_for()
    page.get_by_role("button", name="Key", exact=True).click()
    page.locator("dialog input").fill("other.key")
    try:
        with page.expect_request("**/v1/stream*") as asked:
            page.keyboard.press("Enter")
        assert asked.value.headers["authorization"] == "Bearer other.key"
        page.locator("text=Waiting for memories.").wait_for()
    finally:
        page.get_by_role("button", name="Key set").click()
        with page.expect_request("**/v1/stream*") as asked:
            page.get_by_role("button", name="Forget the key").click()
    assert "authorization" not in asked.value.headers


@pytest.mark.soak
def test_points_within_a_line_are_listed(watched: Watched):
    page = watched.open("#/likeness", ".scatter")
    box = page.locator(".scatter").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in ((box["width"] - 4, 2), (box["width"] - 4, box["height"] - 4), (2, box["height"] - 4)):
        page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.up()
    page.locator("h2", has_text=re.compile(r"^\d+ chosen$")).wait_for()
    page.get_by_role("button", name="Zoom to them").click()
    page.get_by_role("button", name="Show all").click()
    page.locator("h2", has_text="The newest").wait_for()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("place", "shows"),
    [
        ("#/likeness?by=nothing&limit=many", ".scatter"),
        ("#/map?x=here&z=1&r=far&low=deep&cell=big", ".map canvas"),
        (f"#/agents/{AGENT}?from=once&to=", ".readout"),
        (f"#/agents/{AGENT}/nothing", ".readout"),
        (f"#/ask?agent={AGENT}&q=anvil&min=little&x=here", ".found li"),
        ("#/admin/nothing", "h1:has-text('Keys')"),
    ],
)
def test_an_address_that_makes_no_sense_shows_the_view(place: str, shows: str, watched: Watched):
    watched.open(place, shows)


@pytest.mark.soak
def test_the_arrows_go_through_a_list_and_tab_leaves_it(watched: Watched):
    page = watched.open(f"#/agents/{AGENT}", ".line")
    page.locator(".line").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    focused = "document.activeElement.closest('li') === document.querySelector('.list li:nth-child(2)')"
    assert page.evaluate(focused)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.list') === null")


@pytest.mark.soak
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme: Any, watched: Watched):
    watched.page.emulate_media(color_scheme=scheme)
    try:
        for view in VIEWS:
            watched.open(view.place, view.shows)
            assert watched.violations(contrast=True) == [], view.name
    finally:
        watched.page.emulate_media(color_scheme="light")


@pytest.mark.soak
def test_a_key_is_asked_for_and_forgotten_with_the_tab(shared: Watched, tmp_path: Path):
    """The page opens without a key; its data needs one; a key without a scope is told so."""
    keys = tmp_path / "keys.json"
    made = {
        scope: bearer(keys, *map(KeyScope, scope.split())).removeprefix("Bearer ")
        for scope in ("query admin", "query")
    }
    with running(tmp_path / "data", {**HASH, "LORESTREAM_API_KEYS_FILE": str(keys)}) as process:
        context = shared.page.context.browser.new_context()  # type: ignore[union-attr]
        watched = Watched(context.new_page(), process.url)
        page = watched.open("", "h1:has-text('An API key is needed')")
        page.get_by_label("API key").fill("nobody.nothing")
        page.keyboard.press("Enter")
        page.locator("h1:has-text('This key is not valid')").wait_for()
        page.get_by_label("API key").fill(made["query"])
        page.keyboard.press("Enter")
        page.locator("text=This key may not do that").wait_for()
        page.get_by_role("button", name="Key set").click()
        page.locator("dialog input").fill(made["query admin"])
        page.keyboard.press("Enter")
        page.locator("text=Nobody remembers anything yet").wait_for()
        assert page.evaluate("JSON.stringify(localStorage)").find(made["query admin"].partition(".")[2]) < 0
        other = Watched(context.new_page(), process.url)
        other.open("", "h1:has-text('An API key is needed')")
        context.close()


@pytest.mark.soak
def test_the_first_byte_and_all_bytes(watched: Watched, url: str):
    """What a browser loads for every view, and how long the first byte takes once the files are read."""
    sizes: dict[str, int] = {}
    watched.page.on("response", lambda answer: sizes.setdefault(answer.url, _transferred(answer)))
    for view in VIEWS:
        watched.page.goto("about:blank")
        watched.open(view.place, view.shows)
    loaded = sum(size for address, size in sizes.items() if "/console" in address)
    first = min(_first_byte_s(url) for _ in range(20))
    print(f"{loaded:,} bytes for all views, first byte after {first * 1000:.1f} ms")
    assert loaded <= 200_000


def _transferred(answer: Response) -> int:
    return int(answer.headers.get("content-length", 0))


def _first_byte_s(url: str) -> float:
    began = time.perf_counter()
    with httpx2.stream("GET", f"{url}/console") as answer:
        next(answer.iter_raw())
    return time.perf_counter() - began


@pytest.mark.soak
def test_a_dead_letter_is_dropped_with_its_id_typed(watched: Watched):
    page = watched.open("#/dead?id=0-1", "button:has-text('Drop …') >> nth=0")
    page.locator("section", has_text="Dead letter 0-1").get_by_role("button", name="Drop").click()
    page.keyboard.type("0-1")
    page.get_by_role("button", name="Drop", exact=True).click()
    page.locator("dt", has_text="dropped").wait_for()
    page.locator("code", has_text=re.compile("^0-1$")).wait_for(state="detached")
    assert page.locator("code", has_text=re.compile("^0-0$")).count() == 1


@pytest.mark.soak
def test_dead_letters_are_retried_and_dropped(watched: Watched):
    """One, which fails again with one more attempt, then all of them."""
    page = watched.open("#/dead?id=0-0", "pre:has-text('rubbish')")
    page.get_by_role("button", name="Retry", exact=True).click()
    page.locator("dt", has_text="retried").wait_for()
    while not page.locator("td", has_text=re.compile("^2$")).count():  # the number of its attempts
        page.get_by_role("button", name="Refresh").click()
        page.wait_for_timeout(200)
    assert page.locator("code", has_text=re.compile("^0-0$")).count() == 0
    page.get_by_role("button", name="Retry all").click()
    while not page.locator("td", has_text=re.compile("^3$")).count():
        page.get_by_role("button", name="Refresh").click()
        page.wait_for_timeout(200)
    page.get_by_role("button", name="Drop all").click()
    page.keyboard.type("all")
    page.get_by_role("button", name="Drop", exact=True).click()
    page.locator("text=No dead letters.").wait_for()


@pytest.mark.soak
def test_a_collection_is_filled_searched_and_left_again(watched: Watched, url: str):
    """Replay with its gate, drop, swap, rollback; searches find the same all the while."""
    page = watched.open("#/index", "td:has-text('hash-v1')")
    row = page.locator(".table[aria-label=Collections] tbody tr")
    before = row.filter(has_text="searched").locator("code").inner_text()

    def confirm(opens: str, name: str, does: str) -> None:
        page.get_by_role("button", name=opens).click()
        page.keyboard.type(name)
        page.get_by_role("button", name=does, exact=True).click()

    def found() -> list[str]:
        search = {"agent_id": AGENT, "query": "where is the anvil"}
        memories = httpx2.post(f"{url}/v1/memories/search", json=search, timeout=60).json()["memories"]
        return [memory["text"] for memory in memories]

    def replay_into(name: str) -> None:
        page.get_by_label("New collection").fill(name)
        page.get_by_role("button", name="Replay the log into it").click()
        page.locator("h2", has_text=f"Gate of {name}: passed").wait_for()

    first = found()
    replay_into("spare")
    confirm("Drop …", "spare", "Delete")
    row.filter(has_text="spare").wait_for(state="detached")
    replay_into("better")
    confirm("Swap to it …", "better", "Swap")
    row.filter(has_text="better").filter(has_text="searched").wait_for()
    just_replaced = row.filter(has_text=before)
    just_replaced.locator("button:enabled", has_text="Swap to it").wait_for()
    assert just_replaced.locator("button:disabled", has_text="Drop").count() == 1
    assert found() == first
    confirm(f"Roll back to {before} …", before, "Roll back")
    row.filter(has_text=before).filter(has_text="searched").wait_for()
    assert found() == first


SCROLL = """async ([end, wanted]) => {
    const box = document.querySelector('.list');
    let most = 0;
    for (;;) {
        const texts = [...box.querySelectorAll('.line .text')].map((each) => each.textContent);
        most = Math.max(most, texts.length);
        if (texts.includes(wanted)) return most;
        for (const page = box.dataset[end]; page === box.dataset[end]; ) {
            box.scrollTo(0, end === 'last' ? box.scrollHeight : 0);
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
    }
}"""
"""Scrolls the list, page by page, to its last or first end until it has a line; the most lines it had at a time."""


@pytest.mark.soak
def test_a_timeline_of_100_000_memories_scrolls(watched: Watched, url: str):
    """Counted as bars, drawn one by one once 5,000 remain, and listed page by page to the last one."""
    watched.page.set_default_timeout(600_000)  # 100,000 memories are read, also where the machine is busy
    agent, total = "npc:old", 100_000
    with MemoryClient(url, retry_timeout_s=300) as memories:  # a busy machine refuses a batch now and then
        for first in range(0, total, 1000):
            numbers = range(first, first + 1000)
            batch: list[Event] = [
                {
                    "agent_id": agent,
                    "text": f"memory {n}",
                    "type": f"t{n % 7}",
                    "time": 1.7e9 + n * 60,
                    "ttl": 0,
                }
                for n in numbers
            ]
            token = memories.add_batch(batch).token
        while not memories.search(agent, k=1, after=token, wait_s=60).fresh:
            pass  # the limit of the test ends this where indexing stands still
    began = time.perf_counter()
    page = watched.open("#/agents/npc%3Aold", "text=100,000 memories are in this time")
    print(f"100,000 memories are counted after {time.perf_counter() - began:.1f} s")
    last = 1.7e9 + (total - 1) * 60
    watched.open(f"#/agents/npc%3Aold?from={last - 4999 * 60}&to={last}", ".readout")
    page.locator("text=Of these 5,000 memories").wait_for()
    watched.open("#/agents/npc%3Aold", "text=100,000 memories are in this time")
    page.locator(".line", has_text="memory 99999").wait_for()
    began = time.perf_counter()
    assert page.evaluate(SCROLL, ["last", "memory 0"]) <= 1000
    print(f"the list was scrolled to its end in {time.perf_counter() - began:.1f} s")
    assert page.evaluate(SCROLL, ["first", "memory 1999"]) <= 1000  # and back, a few pages

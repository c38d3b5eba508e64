"""The console in a real browser, over a `lorestream up` with the demo village."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.console.browser import Watched, chromium
from tests.console.views import VIEWS, View
from tests.console.village import fill
from tests.processes import HASH, running

NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Lorestream that holds the village of the last day."""
    with running(tmp_path_factory.mktemp("console"), HASH) as process:
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
    assert shared.faults == []
    shared.faults.clear()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_view(view: View, watched: Watched):
    """Each view shows its data, without errors, without other addresses, for all, and in a narrow window."""
    page = watched.open(view.place, view.shows)
    assert watched.violations() == []
    assert not watched.is_wider_than_the_window()
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert not watched.is_wider_than_the_window()
    assert page.locator("main :is(img, script, b)").count() == 0, "a text became markup"
    assert page.title().endswith("Lorestream")


def test_a_memory_is_asked_for_and_explained(watched: Watched):
    """From the list of agents, by keyboard, to an answer, its parts, and why another memory is not in it."""
    page = watched.open("", "a:has-text('npc:smith-1')")
    page.keyboard.press("/")
    page.keyboard.type("npc:sm")
    page.keyboard.press("Enter")
    page.locator("h1:has-text('npc:sm')").wait_for()
    watched.open("#/agents/npc%3Asmith-1", ".readout")
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


def test_a_circle_is_drawn_on_the_map(watched: Watched):
    page = watched.open("#/map", ".map canvas")
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
    watched.open("#/agents/npc%3Atrader-1", ".readout")
    page = watched.page
    page.get_by_role("button", name="Erase").click()
    erase = page.get_by_role("button", name="Erase for ever")
    page.keyboard.type("npc:trader")
    assert erase.is_disabled()
    page.keyboard.type("-1")
    erase.click()
    page.locator("text=Erased: no read").wait_for()
    page.locator("a:has-text('npc:smith-1')").first.wait_for()
    assert httpx2.get(f"{url}/v1/agents/npc%3Atrader-1/summary").json()["total"] == 0

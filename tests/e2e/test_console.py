"""The console in a real browser, over a `lorestream up` with the demo village."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.console.browser import Watched, chromium
from tests.console.views import VIEWS, View
from tests.console.village import fill
from tests.processes import HASH, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Lorestream that holds the village of the last day."""
    with running(tmp_path_factory.mktemp("console"), HASH) as process:
        fill(process.url)
        yield process.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    context = browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    yield Watched(context.new_page(), url)
    context.close()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_view(view: View, watched: Watched):
    """Each view shows its data, without errors, without other addresses, for all, and in a narrow window."""
    page = watched.open(view.place, view.shows)
    assert watched.violations() == []
    assert not watched.is_wider_than_the_window()
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert not watched.is_wider_than_the_window()
    assert watched.faults == []

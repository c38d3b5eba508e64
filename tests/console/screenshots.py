"""Takes the pictures of the console for README and docs, with the demo village: `make pictures`.

    python -m tests.console.screenshots docs/console

It starts a Lorestream of its own with the default embedding model, and Debian's Chromium. The time of the village ends
now, so the pictures differ from run to run; they are taken anew when a view has changed.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.console.browser import Watched, chromium
from tests.console.village import AGENT, fill, play
from tests.processes import running


@dataclass(frozen=True, slots=True)
class Picture:
    """`place`, `shows` as in `tests.console.views`; `height` in pixels; `click`: what is clicked before."""

    name: str
    place: str
    shows: str
    height: int = 800
    scheme: str = "light"
    click: str | None = None
    busy_s: float = 0.0
    """For how long the village is played meanwhile, with questions."""


_QUESTION = quote("what about the fence is broken?")
PICTURES = [
    Picture("agent", f"#/agents/{quote(AGENT)}", ".readout", 1000, click=".line >> nth=3"),
    Picture(
        "ask",
        f"#/ask?agent={quote(AGENT)}&q={_QUESTION}&rec=0.2&imp=0.1&normalise=1",
        ".found li",
        click="button:has-text('Ask again')",
    ),
    Picture("map", f"#/map?agent={quote(AGENT)}&x=100&z=50&r=150", ".plain li", 760, "dark"),
    Picture("live", "#/live", "text=listening", 760, busy_s=8.0),
    Picture("pipeline", "#/pipeline", ".flow [data-state=ok] >> nth=5", 1000, "dark", busy_s=30.0),
    Picture("likeness", "#/likeness?by=type", ".scatter", 860),
]
WIDTH = 1280


def take(folder: Path) -> None:
    """Write a PNG file of each picture into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, running(Path(data), {}) as process, chromium() as browser:
        fill(process.url, tricky=False)
        play(process.url, 2.0)  # the first questions after a start take longer
        for picture in PICTURES:
            size = {"width": WIDTH, "height": picture.height}
            context = browser.new_context(viewport=size, color_scheme=picture.scheme)  # type: ignore[arg-type]
            watched = Watched(context.new_page(), process.url)
            page = watched.open(picture.place, picture.shows)
            if picture.click is not None:
                page.locator(picture.click).click()
                page.evaluate("scrollTo(0, 0)")
            if picture.busy_s:
                play(process.url, picture.busy_s)
            else:
                page.wait_for_load_state("networkidle")
            page.screenshot(path=folder / f"{picture.name}.png")
            context.close()
            assert watched.faults == [], watched.faults


if __name__ == "__main__":
    take(Path(sys.argv[1]))

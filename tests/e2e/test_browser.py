"""The storefront in a real browser: seen, read, searched and used without a script, on a desktop and on a phone."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from reconciler.gateway.admin import Server, listening
from tests.e2e.browser import CHROMIUM, Tab, browser
from tests.e2e.stall import Stall, stall

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT LOOKED AT IN A BROWSER: chromium is not installed")
# A page with nothing on it takes some 5 kB as PNG at this size, and one of text ten times that.
BLANK = 15_000
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stall]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
        with stall(tmp_path_factory.mktemp("stall")) as opened:
            yield opened


@pytest.fixture(scope="module")
def address(shop: Stall) -> Iterator[str]:
    """Where the shop is open."""
    door = listening(("127.0.0.1", 0))
    door.listen()  # whoever comes before the server is there waits
    server = Server(uvicorn.Config(shop.app, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        yield "http://{}:{}".format(*door.getsockname())
    finally:
        server.should_exit = True
        thread.join()
        door.close()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tab(window: Tab) -> Tab:
    window.look()
    window.said.clear()
    return window


def widest(tab: Tab) -> int:
    """How wide the page is; wider than the window means that one has to scroll sideways."""
    return int(tab.value("document.documentElement.scrollWidth"))


@pytest.mark.row("S-48")
@pytest.mark.parametrize(
    "path", ["/catalog", "/catalog/fx-history", "/producers/fx-desk", "/catalog?q=unicorn", "/catalog/nothing"]
)
def test_a_page_is_seen_in_light_and_dark_on_a_desk_and_on_a_phone(tab: Tab, address: str, path: str) -> None:
    grounds = []
    for how in ({}, {"dark": True}, PHONE, {**PHONE, "dark": True}):
        tab.look(**how)
        tab.go(address + path)
        assert len(tab.picture()) > BLANK
        assert widest(tab) == how.get("width", 1280)
        grounds.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == grounds[2] != grounds[1] == grounds[3]
    # No script was refused, no style, no picture: none was tried. A missing page is all that a browser remarks on.
    assert all("404" in line for line in tab.said) and (not tab.said or path.endswith("nothing"))


def test_one_searches_and_finds_without_a_script(tab: Tab, address: str) -> None:
    tab.look(scripts=False)
    tab.go(f"{address}/")
    tab.value("document.querySelector('input[name=q]').focus()")
    tab.ask("Input.insertText", text="historical")
    tab.submit()
    assert tab.value("location.search").startswith("?q=historical")
    assert tab.value("[...document.querySelectorAll('article h2')].map(one => one.textContent)") == [
        "Euro reference rates 2015 to 2024"
    ]
    tab.follow("article a")
    assert tab.value("document.querySelector('h1').textContent") == "Euro reference rates 2015 to 2024"
    assert tab.value("document.querySelectorAll('.scroll tbody tr').length") >= 5
    tab.follow(".crumbs a")
    tab.value("document.querySelector('select[name=sort]').value = 'price'")
    tab.value("document.querySelector('input[name=maxPrice]').value = '10'")
    tab.value("document.querySelector('input[name=q]').focus()")
    tab.submit()
    assert "sort=price" in tab.value("location.search") and "Nothing fits" in tab.value("document.body.textContent")
    assert tab.said == []


def test_a_command_is_selected_whole_and_without_its_prompt(tab: Tab, address: str) -> None:
    tab.go(f"{address}/catalog/fx-2024")
    tab.value("getSelection().selectAllChildren(document.querySelector('.steps pre'))")
    assert tab.value("getSelection().toString()").strip() == "reconciler consumer init"
    assert tab.value("getComputedStyle(document.querySelector('.steps pre')).userSelect") == "all"


def test_what_is_focused_is_seen_and_every_field_has_a_name(tab: Tab, address: str) -> None:
    tab.go(f"{address}/catalog")
    named = "one.type === 'hidden' || one.labels.length > 0 || one.ariaLabel || one.textContent"
    assert tab.value(f"[...document.querySelectorAll('input, select, button')].every(one => !!({named}))")
    tab.key("Tab")
    assert tab.value("document.activeElement.textContent") == "Skip to the content"
    assert tab.value("document.activeElement.getBoundingClientRect().left") >= 0


def contrast(one: str, other: str) -> float:
    """WCAG 2: how far two colours, #rrggbb, are apart."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_on_its_ground(tab: Tab, address: str) -> None:
    for dark in (False, True):
        tab.look(dark=dark)
        tab.go(f"{address}/catalog")
        colours = {
            name: tab.value(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
            for name in ("paper", "card", "tint", "ink", "soft", "accent", "on-accent", "code", "on-code", "hush")
        }
        colours = {name: "#" + value[1:] * 2 if len(value) == 4 else value for name, value in colours.items()}
        pairs = [(text, ground) for text in ("ink", "soft", "accent") for ground in ("paper", "card", "tint")]
        for text, ground in [*pairs, ("on-accent", "accent"), ("on-code", "code"), ("hush", "code")]:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground, dark)


def test_the_picture_of_the_readme_can_be_taken(tab: Tab, address: str, tmp_path: Path) -> None:
    """With RECONCILER_PICTURE set it is the one in docs/images that is made."""
    tab.look(width=1180, height=940)
    tab.go(f"{address}/catalog/fx-history")
    kept = Path(__file__).parents[2] / "docs" / "images"
    place = (kept if os.environ.get("RECONCILER_PICTURE") else tmp_path) / "storefront.png"
    place.write_bytes(tab.picture())
    # The same page at the same size: an empty one is a tenth of it.
    assert place.stat().st_size > (kept / "storefront.png").stat().st_size / 3

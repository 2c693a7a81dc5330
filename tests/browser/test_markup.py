"""What can be read from the files: links, headings, texts for images. No browser is needed."""

from functools import cache
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from built_site import CHAPTERS, FORWARD, PAGES, SITE

ADDRESS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}
HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]


@cache
def parsed(file):
    return BeautifulSoup(file.read_bytes(), "html.parser")


@cache
def fragments(file):
    return {tag["id"] for tag in parsed(file).find_all(id=True)}


def resolves(file, address):
    """Say whether an address on a page is a file of the site, and its fragment a place in it."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not (parts.fragment and target.suffix == ".html"):
        return target.is_file()
    return target.is_file() and unquote(parts.fragment) in fragments(target)


@pytest.mark.parametrize("path", [FORWARD, *PAGES])
def test_internal_links_lead_somewhere(path):
    file = (SITE / path).resolve()
    tags = parsed(file).select("a[href], link[href], [src]")
    found = [tag[ADDRESS[tag.name]] for tag in tags]
    assert found
    assert [address for address in found if not resolves(file, address)] == []


@pytest.mark.parametrize("path", PAGES)
def test_headings_skip_no_level_and_images_have_a_text(path):
    main = parsed(SITE / path).main
    shown = [h for h in main.find_all(HEADINGS) if not h.find_parent(class_="onlyprint")]
    levels = [HEADINGS.index(heading.name) + 1 for heading in shown]
    assert levels[0] == 1
    assert levels.count(1) == 1
    steps = zip(shown[1:], levels[1:], levels[:-1], strict=True)
    assert [heading.get_text() for heading, level, above in steps if level > above + 1] == []
    images = main.find_all("img")
    assert [image["src"] for image in images if not image.get("alt", "").strip()] == []


def test_a_broken_link_is_seen_and_the_pages_are_those_that_are_expected():
    file = (SITE / PAGES[0]).resolve()
    assert not resolves(file, "#no-such-place")
    assert not resolves(file, "no-such-page.html")
    assert len(CHAPTERS) == 5
    assert {"search.html", "genindex.html", "book/index.html", "book/handout.html"} <= set(PAGES)

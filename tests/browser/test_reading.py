"""What a reader sees and does on the site: pages, search, questions, downloads, print."""

import re
from io import BytesIO

import numpy as np
import pytest
from built_site import CHAPTERS, COLOURS, FORWARD, PAGES, SITE, violations
from conftest import PHONE
from PIL import Image

CHAPTER = CHAPTERS[0]
A4 = (595, 842)  # points
MOST_TABS = 400
HIT = "#search-results ul.search > li > a"
SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
# One page of each kind: contrast takes most of the time, and the style sheet is the same for all.
DARK = {
    *(CHAPTERS[1], "book/index.html", "book/handout.html", "book/batch.html"),
    *("book/api/training.html", "book/setup.html", "search.html", "genindex.html"),
}
THEME = "document.documentElement.dataset.theme"


def tab_to(page, selector):
    """Press Tab until the focus is on a match, as somebody without a mouse does."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return page.locator("*:focus")
    raise AssertionError(f"pressing Tab {MOST_TABS} times does not lead to {selector!r}")


def picture(element):
    return np.asarray(Image.open(BytesIO(element.screenshot(animations="disabled")))).astype(int)


def focus_is_seen(page, element):
    """Say whether the focus, which it keeps, puts a ring of two pixels around an element."""
    element = element.element_handle()  # what was found as having the focus, also without it
    focused = picture(element)
    element.evaluate("element => element.blur()")
    changed = np.abs(focused - picture(element)).max(axis=2) > 64
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    return changed.sum() > 2 * 2 * sum(changed.shape)


def search(page, word):
    """Search by the keyboard, and wait for the results."""
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input:focus").wait_for()
    page.keyboard.type(word)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator(HIT).first.wait_for()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_sound_wide_and_narrow_and_of_each_kind_one_in_the_dark(open_page, path):
    page = open_page(path)
    page.wait_for_function(f"{THEME} === 'light'")
    assert not page.evaluate(SCROLLS), "the page scrolls sideways on a desktop"
    assert violations(page) == []
    if path in DARK:
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"{THEME} === 'dark'")
        assert violations(page, COLOURS) == []
    page.set_viewport_size(PHONE)
    assert not page.evaluate(SCROLLS), "the page scrolls sideways on a phone"
    assert page.locator("script[src*=mathjax i]").count() == 0
    for formula in page.locator("math").all()[:1]:
        assert formula.bounding_box()["height"] > 0


OPENERS = {
    "nothing": lambda page: None,
    "search": lambda page: page.keyboard.press("Control+k"),
    "downloads": lambda page: page.get_by_role("button", name="Download this page").click(),
    "navigation": lambda page: page.locator("button.primary-toggle").click(),
    "contents": lambda page: page.locator("button.secondary-toggle").click(),
    "all that is folded": lambda page: page.eval_on_selector_all(
        "article details", "all => all.forEach(details => { details.open = true })"
    ),
}


@pytest.mark.parametrize("what", OPENERS)
def test_what_opens_on_a_phone_is_accessible(open_page, what):
    page = open_page(CHAPTER, PHONE)
    OPENERS[what](page)
    assert violations(page) == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_questions_solutions_and_downloads_of_a_chapter_work(open_page, path):
    page = open_page(path)
    option = tab_to(page, "blockquote summary")
    feedback = option.locator("xpath=following-sibling::*[1]")
    assert not feedback.is_visible()
    assert focus_is_seen(page, option)
    page.keyboard.press("Enter")
    assert feedback.inner_text().startswith(("Right.", "No."))
    solution = tab_to(page, ".tag_solution details.hide > summary")
    code = solution.locator("xpath=following-sibling::*").locator("pre")
    assert solution.inner_text() == "Show a solution"
    assert not code.is_visible()
    assert focus_is_seen(page, solution)
    page.keyboard.press("Enter")
    assert code.is_visible()
    assert solution.inner_text() == "Hide the solution"
    page.get_by_role("button", name="Download this page").click()
    items = page.locator(".dropdown-download-buttons a.dropdown-item:visible")
    files = [SITE / path / ".." / item.get_attribute("href") for item in items.all()]
    assert {file.suffix for file in files} == {".ipynb", ".py"}
    assert all(file.resolve().stat().st_size for file in files)


def test_search_leads_to_a_page_with_the_word_or_says_that_there_is_none(open_page):
    page = open_page("book/index.html")
    search(page, "dilation")
    tab_to(page, HIT)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "search.html" not in url)
    assert "dilation" in page.locator("article").inner_text().lower()
    page = open_page("search.html?q=xylophone")
    page.get_by_text("did not match any documents").wait_for()


def test_the_theme_is_kept_from_page_to_page(open_page):
    page = open_page("book/index.html")
    for _ in range(3):  # it goes round: as the system has it, light, dark
        if page.evaluate(THEME) == "dark":
            break
        page.locator("button.theme-switch-button").first.click()
    assert page.evaluate(THEME) == "dark"
    page.locator(".prev-next-area a.right-next").click()
    page.wait_for_url(lambda url: "index.html" not in url)
    assert page.evaluate(THEME) == "dark"


def test_the_menus_of_a_phone_lead_to_sections_and_pages(open_page):
    page = open_page(CHAPTER, PHONE)
    section = page.locator("#pst-page-toc-nav a").last
    assert not section.is_visible()
    page.locator("button.secondary-toggle").click()
    section.click()
    assert page.url.endswith(section.get_attribute("href"))
    page = open_page(CHAPTER, PHONE)
    link = page.get_by_role("link", name="Speed", exact=True)
    assert not link.is_visible()
    page.locator("button.primary-toggle").click()
    link.click()
    page.wait_for_url("**/book/speed.html")
    assert not link.is_visible()


def test_the_handout_is_one_sheet(open_page):
    pdf = open_page("book/handout.html").pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    (box,) = re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)
    assert [float(side) for side in box.split()[2:]] == pytest.approx(A4, abs=1)


def test_nothing_needs_a_server(open_page):
    page = open_page(FORWARD, base=SITE.as_uri() + "/")
    page.wait_for_url("**/book/index.html")
    assert page.locator("h1").filter(visible=True).count() == 1
    search(page, "dilation")
    assert page.locator(HIT).count() > 1

"""What a reader does on the site: searching, answering, unfolding, printing, downloading."""

import re
from io import BytesIO

import numpy as np
import pytest
from accessibility import violations
from built_site import CHAPTERS, FORWARD, PAGES, SITE
from PIL import Image

CHAPTER = CHAPTERS[0]
A4 = (595, 842)  # points
MOST_TABS = 400
HIT = "#search-results ul.search > li > a"


def tab_to(page, selector):
    """Press Tab until the focus is on a match, as somebody without a mouse does."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return page.locator("*:focus")
    raise AssertionError(f"{MOST_TABS} times Tab do not lead to {selector!r}")


def picture(element):
    return np.asarray(Image.open(BytesIO(element.screenshot(animations="disabled")))).astype(int)


def focus_is_seen(page, element):
    """Tell whether the focus, which it keeps, puts a ring of two pixels around an element."""
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


def test_search_leads_to_a_page_with_the_word(open_page):
    page = open_page("book/index.html")
    search(page, "dilation")
    tab_to(page, HIT)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "search.html" not in url)
    assert "dilation" in page.locator("article").inner_text().lower()


def test_search_that_finds_nothing_says_so(open_page):
    page = open_page("search.html?q=xylophone")
    page.get_by_text("did not match any documents").wait_for()


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_question_is_answered_by_the_keyboard(open_page, path):
    page = open_page(path)
    option = tab_to(page, ".question summary")
    feedback = option.locator("xpath=following-sibling::*")
    assert not feedback.is_visible()
    assert focus_is_seen(page, option)
    page.keyboard.press("Enter")
    assert feedback.is_visible()
    assert feedback.inner_text().startswith(("Right.", "No."))


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_solution_is_unfolded_by_the_keyboard(open_page, path):
    page = open_page(path)
    summary = tab_to(page, ".tag_solution details.hide > summary")
    code = summary.locator("xpath=following-sibling::*").locator("pre")
    assert summary.inner_text() == "Show a solution"
    assert not code.is_visible()
    assert focus_is_seen(page, summary)
    page.keyboard.press("Enter")
    assert code.is_visible()
    assert summary.inner_text() == "Hide the solution"


def test_a_hint_is_unfolded_by_the_keyboard(open_page):
    page = open_page(CHAPTER)
    hint = tab_to(page, ".exercise + details > summary")
    assert hint.inner_text() == "Hint"
    page.keyboard.press("Enter")
    assert hint.locator("xpath=following-sibling::*").is_visible()


def test_the_theme_is_kept_from_page_to_page(open_page):
    page = open_page("book/index.html", theme="light")
    theme = "document.documentElement.dataset.theme"
    for _ in range(3):  # it goes round: as the system has it, light, dark
        if page.evaluate(theme) == "dark":
            break
        page.locator("button.theme-switch-button").first.click()
    assert page.evaluate(theme) == "dark"
    page.locator(".prev-next-area a.right-next").click()
    page.wait_for_url(lambda url: "index.html" not in url)
    assert page.evaluate(theme) == "dark"


def test_the_drawer_of_a_phone_leads_to_another_page(open_page):
    page = open_page(CHAPTER, "phone")
    link = page.get_by_role("link", name="Speed", exact=True)
    assert not link.is_visible()
    page.locator("button.primary-toggle").click()
    link.click()
    page.wait_for_url("**/book/speed.html")
    assert not link.is_visible()


def test_the_contents_of_a_page_open_on_a_phone(open_page):
    page = open_page(CHAPTER, "phone")
    link = page.locator("#pst-page-toc-nav a").last
    assert not link.is_visible()
    page.locator("button.secondary-toggle").click()
    link.click()
    page.locator(link.get_attribute("href")).wait_for()
    assert page.url.endswith(link.get_attribute("href"))


def test_the_sidebar_of_a_desktop_can_be_put_away(open_page):
    page = open_page(CHAPTER)
    link = page.get_by_role("link", name="Speed", exact=True)
    assert link.is_visible()
    page.locator("button.primary-toggle").click()
    link.wait_for(state="hidden")


@pytest.mark.parametrize("path", CHAPTERS)
def test_downloads_are_notebook_and_script(open_page, path):
    page = open_page(path)
    page.get_by_role("button", name="Download this page").click()
    items = page.locator(".dropdown-download-buttons a.dropdown-item:visible")
    files = [SITE / path / ".." / item.get_attribute("href") for item in items.all()]
    assert {file.suffix for file in files} == {".ipynb", ".py"}
    assert all(file.resolve().stat().st_size for file in files)


OPENERS = {
    "search": lambda page: page.keyboard.press("Control+k"),
    "downloads": lambda page: page.get_by_role("button", name="Download this page").click(),
    "navigation": lambda page: page.locator("button.primary-toggle").click(),
    "contents": lambda page: page.locator("button.secondary-toggle").click(),
    "all that is folded": lambda page: page.eval_on_selector_all(
        "article details", "all => all.forEach(details => { details.open = true })"
    ),
}


@pytest.mark.parametrize("what", OPENERS)
def test_what_opens_is_accessible(open_page, what):
    page = open_page(CHAPTER, "phone")
    OPENERS[what](page)
    assert violations(page) == []


def test_formulas_are_drawn_without_a_script(open_page):
    page = open_page("book/handout.html")
    box = page.locator("math").first.bounding_box()
    assert box["width"] > 0
    assert box["height"] > 0
    assert page.locator("script[src*=mathjax i]").count() == 0


def test_the_handout_is_one_sheet(open_page):
    pdf = open_page("book/handout.html").pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    (box,) = re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)
    assert [float(side) for side in box.split()[2:]] == pytest.approx(A4, abs=1)


def test_nothing_needs_a_server(open_page):
    base = SITE.as_uri() + "/"
    page = open_page(FORWARD, base=base)
    page.wait_for_url("**/book/index.html")
    assert page.locator("h1").filter(visible=True).count() == 1
    search(page, "dilation")
    assert page.locator(HIT).count() > 1


def test_pages_are_those_that_are_expected():
    assert len(CHAPTERS) == 5
    assert {"search.html", "genindex.html", "book/index.html", "book/handout.html"} <= set(PAGES)

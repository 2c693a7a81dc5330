"""Every page, at the width of a desktop and of a phone, in both themes."""

import pytest
from accessibility import COLOURS, violations
from built_site import PAGES, SCREENSHOTS, WIDTHS

SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
THEME = "theme => document.documentElement.dataset.theme === theme"


def keep_screenshot(page, path, *marks):
    SCREENSHOTS.mkdir(exist_ok=True)
    name = "-".join([path.removesuffix(".html").replace("/", "-"), *marks])
    file = SCREENSHOTS / f"{name}.jpg"
    page.screenshot(path=file, full_page=True, quality=70, animations="disabled")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES)
def test_the_page_is_sound(open_page, path, width):
    page = open_page(path, width, "light")
    page.wait_for_function(THEME, arg="light")
    keep_screenshot(page, path, width, "light")
    assert not page.evaluate(SCROLLS), "the page scrolls sideways"
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(THEME, arg="dark")
    keep_screenshot(page, path, width, "dark")
    assert violations(page, COLOURS) == []

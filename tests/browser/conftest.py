"""The browser, the served site, and pages that keep an account of what goes wrong on them."""

import pytest
from built_site import CHAPTERS, MADE_BY_SPHINX, PAGES, SITE, WIDTHS, documents, served
from chromium import NoBrowserError, find_chromium, install_chromium
from playwright.sync_api import sync_playwright

# Nothing but this machine can be reached, so that a page that needs another is seen to fail.
ARGUMENTS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
)


def pytest_configure(config):
    if not CHAPTERS:
        raise pytest.UsageError(f"there is no built site at {SITE}: run 'make book' first")
    if left_over := set(PAGES) - documents() - MADE_BY_SPHINX:
        raise pytest.UsageError(
            f"{SITE} holds what an earlier build has left: {', '.join(sorted(left_over))}; remove "
            "the folder and run 'make book'"
        )


@pytest.fixture(scope="session")
def browser():
    try:
        program = find_chromium() or install_chromium()
    except NoBrowserError as error:
        pytest.exit(str(error), returncode=1)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address():
    with served() as address:
        yield address


@pytest.fixture
def open_page(browser, address):
    """Give a function that opens a page of the site, and fail if anything went wrong on it.

    Errors and warnings in the console, exceptions, requests that fail or that leave this site.
    """
    contexts, complaints = [], []

    def watch(page, base):
        def requested(request):
            if not request.url.startswith((base, "data:", "blob:")):
                complaints.append(f"asks another place for {request.url}")

        def said(message):
            if message.type in ("error", "warning"):
                complaints.append(f"console {message.type}: {message.text}")

        def answered(response):
            if response.status >= 400:
                complaints.append(f"{response.status} for {response.url}")

        def failed(request):
            if request.failure != "net::ERR_ABORTED":  # which is what leaving a page does
                complaints.append(f"{request.failure} for {request.url}")

        page.on("request", requested)
        page.on("console", said)
        page.on("response", answered)
        page.on("requestfailed", failed)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))

    def open_page(path, width="desktop", theme="light", base=address):
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        context = browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce")
        context.set_default_timeout(10_000)  # milliseconds
        contexts.append(context)
        page = context.new_page()
        watch(page, base)
        page.goto(base + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints

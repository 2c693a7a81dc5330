"""The browser, the served site, and pages that keep a record of what goes wrong on them."""

import os
import shutil
from pathlib import Path

import pytest
from built_site import CHAPTERS, MADE_BY_SPHINX, PAGES, SITE, documents, served

# No other machine can be reached, so that a page that needs one is seen to fail.
ARGUMENTS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
)
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}  # pixels


def pytest_configure(config):
    if not CHAPTERS:
        raise pytest.UsageError(f"there is no built site at {SITE}: run 'make book' first")
    if left_over := set(PAGES) - documents() - MADE_BY_SPHINX:
        raise pytest.UsageError(
            f"{SITE} holds pages of an earlier build: {', '.join(sorted(left_over))}; remove the "
            "folder and run 'make book'"
        )


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args, playwright):
    """Take the program that CHROMIUM names, else Playwright's own, else one on the PATH."""
    program = os.environ.get("CHROMIUM")
    if not (program or Path(playwright.chromium.executable_path).exists()):
        program = shutil.which("chromium") or shutil.which("google-chrome")
    return {**browser_type_launch_args, "args": ARGUMENTS, "executable_path": program}


@pytest.fixture(scope="session")
def address():
    with served() as address:
        yield address


@pytest.fixture
def open_page(new_context, address):
    """Give a function that opens a page of the site; fail if anything goes wrong on it.

    Errors and warnings in the console, exceptions, requests that fail or that leave the site.
    """
    complaints = []

    def watch(page, base):
        def check_request(request):
            if not request.url.startswith((base, "data:", "blob:")):
                complaints.append(f"requests {request.url} from another site")

        def check_message(message):
            if message.type in ("error", "warning"):
                complaints.append(f"console {message.type}: {message.text}")

        def check_response(response):
            if response.status >= 400:
                complaints.append(f"{response.status} for {response.url}")

        def check_failure(request):
            if request.failure != "net::ERR_ABORTED":  # which is what leaving a page does
                complaints.append(f"{request.failure} for {request.url}")

        page.on("request", check_request)
        page.on("console", check_message)
        page.on("response", check_response)
        page.on("requestfailed", check_failure)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))

    def open_page(path, size=DESKTOP, base=address):
        context = new_context(viewport=size, color_scheme="light", reduced_motion="reduce")
        context.set_default_timeout(60_000)  # milliseconds
        page = context.new_page()
        watch(page, base)
        page.goto(base + path)
        return page

    yield open_page
    assert not complaints

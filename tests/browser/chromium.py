"""Finding the Chromium that the browser tests drive; run as a script, it says which one."""

import os
import platform
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
USUAL_PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "~/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "$PROGRAMFILES/Google/Chrome/Application/chrome.exe",
    "$LOCALAPPDATA/Google/Chrome/Application/chrome.exe",
)
ADVICE = (
    "get one with '.venv/bin/playwright install chromium', or set CHROMIUM to the path of a "
    "Chromium or Chrome"
)


class NoBrowserError(RuntimeError):
    """No Chromium could be had."""


def find_chromium():
    """Find a Chromium or Chrome that is installed.

    Looks at the environment variable ``CHROMIUM``, on the ``PATH``, in the usual places of macOS
    and Windows, and at what ``playwright install chromium`` has downloaded, in this order.

    Returns
    -------
    str or None
        The program's path; None if there is none.

    Raises
    ------
    NoBrowserError
        If ``CHROMIUM`` names no program.
    """
    if named := os.environ.get("CHROMIUM"):
        if found := shutil.which(named):
            return found
        raise NoBrowserError(
            f"CHROMIUM is {named!r}, which is no program; name a Chromium or Chrome, or unset it"
        )
    return next(filter(None, map(shutil.which, _candidates())), None)


def _candidates():
    yield from NAMES
    yield from (os.path.expanduser(os.path.expandvars(place)) for place in USUAL_PLACES)
    with sync_playwright() as playwright:
        yield playwright.chromium.executable_path


def install_chromium():
    """Install Debian's package ``chromium``, where that is possible, and return the program's path.

    Raises
    ------
    NoBrowserError
        If this is not Debian, the user is not root, or the installation fails.
    """
    if not _is_root_on_debian():
        raise NoBrowserError(f"there is no Chromium here, which the browser tests need; {ADVICE}")
    print("no Chromium here: installing Debian's package chromium", flush=True)
    apt = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True}
    apt |= {"stdin": subprocess.DEVNULL, "text": True}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(["apt-get", *command], **apt)
    if done.returncode or not (found := shutil.which("chromium")):
        reason = "".join(done.stderr.strip().splitlines()[-1:])
        raise NoBrowserError(f"apt-get could not install Chromium ({reason}); {ADVICE}")
    return found


def _is_root_on_debian():
    try:
        debian = platform.freedesktop_os_release()["ID"] == "debian"
    except OSError:
        return False
    return debian and os.geteuid() == 0 and bool(shutil.which("apt-get"))


if __name__ == "__main__":
    try:
        print("browser:", find_chromium() or install_chromium())
    except NoBrowserError as error:
        sys.exit(f"browser tests: {error}")

"""The built site: its pages, and a server for them on this machine."""

import http.server
import json
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

BUILD = Path(__file__).parents[2] / "book" / "_build"
SITE = BUILD / "html"
SCREENSHOTS = BUILD / "screenshots"

FORWARD = "index.html"  # only leads to the first page
MADE_BY_SPHINX = {"genindex.html", "py-modindex.html", "search.html"}


def pages():
    """List the addresses of all pages inside the site; what lies in _static are parts of pages."""
    files = (path.relative_to(SITE) for path in SITE.rglob("*.html"))
    return sorted(f.as_posix() for f in files if f.parts[0] not in ("_static", FORWARD))


def documents():
    """List the addresses of the pages that have a source, as the index of the search knows them."""
    text = (SITE / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return {f"{name}.html" for name in index["docnames"]}


PAGES = pages()
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]

WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}  # of the window, and its height, in pixels


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served():
    """Serve the site on a free port; gives its address, which ends with a slash."""
    handler = partial(_Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()

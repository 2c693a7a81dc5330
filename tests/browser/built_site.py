"""The built site: its pages, a server for them on this machine, and what axe-core finds on one."""

import http.server
import json
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe

SITE = Path(__file__).parents[2] / "book" / "_build" / "html"
FORWARD = "index.html"  # only leads to the first page
MADE_BY_SPHINX = {"genindex.html", "py-modindex.html", "search.html"}

# The rules of WCAG 2.1, levels A and AA, and those of good practice; and those that a theme breaks.
EVERY_RULE = {
    "type": "tag",
    "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


def list_pages():
    """List the addresses of all pages inside the site; what lies in _static are parts of pages."""
    files = (path.relative_to(SITE) for path in SITE.rglob("*.html"))
    return sorted(f.as_posix() for f in files if f.parts[0] not in ("_static", FORWARD))


def documents():
    """List the addresses of the pages that have a source, as the search index knows them."""
    text = (SITE / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return {f"{name}.html" for name in index["docnames"]}


PAGES = list_pages()
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]


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


def violations(page, rules=EVERY_RULE):
    """List the rules of accessibility that the page breaks as it stands, with the first places."""
    # With preload, axe would fetch the style sheets again, for a rule that is not among these.
    options = {"runOnly": rules, "resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response
    assert found["passes"], "axe has looked at nothing"
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'] for node in rule['nodes'][:3]]}"
        for rule in found["violations"]
    ]

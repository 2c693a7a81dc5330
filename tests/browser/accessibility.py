"""What axe-core finds on a page."""

from axe_playwright_python.sync_playwright import Axe

# The rules of WCAG 2.1, levels A and AA, and those of good practice.
ALL = {
    "type": "tag",
    "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
}
# Those among them that a theme can break.
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


def violations(page, rules=ALL):
    """List the rules that the page breaks as it stands, each with the first places."""
    # With preload, axe would fetch the style sheets again, for a rule that is not among these.
    options = {"runOnly": rules, "resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response
    assert found["passes"], "axe has looked at nothing"
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'] for node in rule['nodes'][:3]]}"
        for rule in found["violations"]
    ]

"""Make outputs.md: on what, when and how fast the published outputs were made."""

from pathlib import Path

import pandas as pd
from headings import read_cells, sections, title

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"

PAGE = """\
# Versions and times of the outputs

The outputs in the chapters come from one run of each chapter, from top to bottom
(`make notebooks`). This page is made from what that run left behind.

## Versions and machine

As printed in the first cells of the chapters:

{versions}

## Times

{times}
"""

TIMES = """\
The sum over the cells of a chapter, as the kernel noted them, without its start. Chapters 3 and 4
load what the chapters before have trained. All together took {total}.

{table}"""

NO_TIMES = "Not recorded yet: `make notebooks` writes them."


def read(path):
    """Read a chapter: its cells, and the line in which it describes its machine."""
    cells = read_cells(path)
    heads = [cell for cell in cells if "describe_machine()" in "".join(cell["source"])]
    printed = [output.get("text", "") for cell in heads for output in cell.get("outputs", [])]
    if not printed:
        raise SystemExit(
            f"{path.name} holds no output of describe_machine(), expected one in its first cells; "
            "run 'make notebooks'"
        )
    return cells, "".join(printed[0]).strip()


def versions(chapters):
    """Write the table of versions, one column for the chapters that agree in all of them."""
    groups = {}
    for cells, line in chapters.values():
        groups.setdefault(line, []).append(title(cells).split(" ", 1)[0])
    titles = [f"chapter {', '.join(names)}" for names in groups.values()]
    titles = titles if len(titles) > 1 else ["all chapters"]
    columns = dict(zip(titles, map(_parse, groups), strict=True))
    table = pd.DataFrame(columns).fillna("")
    return _markdown(["what", *table.columns], table.itertuples())


def times(chapters, path):
    """Write the table of times from outputs.csv."""
    if not path.is_file():
        return NO_TIMES
    seconds = pd.read_csv(path)
    rows = []
    for name, (cells, _) in chapters.items():
        mine, where = seconds[seconds["chapter"] == name], sections(cells, name)
        slowest = mine["seconds"].groupby(mine["cell"].map(where)).sum().nlargest(3)
        shown = [f"{section} {_minutes(spent)}" for section, spent in slowest.items()]
        link = f"[{title(cells)}](../notebooks/{name}.ipynb)"
        rows.append((link, mine["date"].max(), _minutes(mine["seconds"].sum()), ", ".join(shown)))
    header = ("chapter", "executed on", "time", "longest sections")
    return TIMES.format(total=_minutes(seconds["seconds"].sum()), table=_markdown(header, rows))


def page(notebooks=NOTEBOOKS, path=HERE / "outputs.csv"):
    """Write the whole page."""
    chapters = {path.stem: read(path) for path in sorted(notebooks.glob("*.ipynb"))}
    return PAGE.format(versions=versions(chapters), times=times(chapters, path))


def _parse(line):
    packages, machine = line.split("; ", 1)
    pairs = (package.rsplit(" ", 1) for package in packages.split(", "))
    return dict(pairs) | {"machine": machine}


def _minutes(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    # No-break spaces: a time stays on one line.
    return f"{minutes}\u00a0min\u00a0{seconds}\u00a0s" if minutes else f"{seconds}\u00a0s"


def _markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    (HERE / "outputs.md").write_text(page(), encoding="utf-8")

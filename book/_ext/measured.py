"""Measured numbers in the prose of the site, read from the files that hold them.

A page writes ``{{ "%.1f" | format(seeds.cnn.test_accuracy.mean * 100) }}`` instead of digits, so no
number can go stale. A name that is not there fails the build. What there is:

``bench[contender][column]``
    The rows of ``benchmarks/bench.csv``, contenders without their versions.
``recipes[network][training][column]``
    The rows of ``benchmarks/bench_accuracy.csv``.
``sweeps[what]``
    ``benchmarks/sweeps.csv``.
``seeds[network][column][statistic]``
    Of ten trainings; a statistic is ``mean``, ``std``, ``min`` or ``max``.
``label_noise[labels][column][statistic]``
    Likewise, of the trainings with doubtful and wrong labels.
"""

import csv
import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]


def read_numbers():
    """Read all of them.

    Returns
    -------
    dict
        Nested; numbers where a cell of a table is one, text elsewhere.
    """
    benchmarks, measured = ROOT / "benchmarks", ROOT / "fmnist_lib" / "measured"
    recipes = {}
    for row in _rows(benchmarks / "bench_accuracy.csv"):
        recipes.setdefault(row["network"], {})[row["training"]] = row
    return {
        "bench": {
            re.sub(r" \d[\d.]+", "", row["contender"]): row
            for row in _rows(benchmarks / "bench.csv")
        },
        "recipes": recipes,
        "sweeps": {row["measured"]: row["value"] for row in _rows(benchmarks / "sweeps.csv")},
        "seeds": _statistics(measured / "seeds.csv", "network"),
        "label_noise": _statistics(measured / "label_noise.csv", "labels"),
    }


def _rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{column: _number(cell) for column, cell in row.items()} for row in rows]


def _number(cell):
    is_number = re.fullmatch(r"-?\d[\d,]*(\.\d+)?", cell)
    return float(cell.replace(",", "")) if is_number else cell


def _statistics(path, group):
    table = pd.read_csv(path).drop(columns="seed").groupby(group)
    numbers = table.agg(["mean", "std", "min", "max"])
    return {
        name: {column: row[column].to_dict() for column in row.index.levels[0]}
        for name, row in numbers.iterrows()
    }


def _substitute(app, config):
    config.myst_substitutions = {**read_numbers(), **config.myst_substitutions}


def setup(app):
    """Give the numbers to MyST's substitutions."""
    app.connect("config-inited", _substitute)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

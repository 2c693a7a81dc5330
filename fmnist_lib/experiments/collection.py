"""The results of many runs: one table, its summary over seeds, and the best setting."""

import json

import pandas as pd

from fmnist_lib.common import UserError
from fmnist_lib.experiments.status import find_runs, load_latest

SEED = "seed"
SELECTION_METRIC = "val_accuracy"
# Runs that differ in one of these are never averaged; with how many characters of it are shown.
VERSIONS = {"code": 8, "library": 8, "torch": None}
VERSION = "version"
FIRST, LAST = ("run", "chapter", "state"), ("seconds", "threads", "attempts", "error", *VERSIONS)
# Names that no parameter or metric can have: these columns, and those of the summary.
SUMMARY = ("metric", "value", "runs", "mean", "sd", "min", "max")
RESERVED_COLUMNS = (*FIRST, *LAST, VERSION, *SUMMARY)


class NoResultsError(UserError):
    """A folder holds no runs, or no finished one."""


def load_results(*folders):
    """Collect all runs below some folders in one table.

    Parameters
    ----------
    *folders : Path

    Returns
    -------
    DataFrame
        One row per run: ``run`` (its folder), ``chapter``, ``state`` (``"finished"``, ``"failed"``,
        ``"stopped"``, or ``"unfinished"`` where it is running or was killed), each parameter, each
        metric (one of a network other than the chapter's own as ``02_cnn.val_accuracy``; one by
        class as ``test_recall.Bag``), ``seconds``, ``threads``, ``attempts``, ``error``, ``code``
        and ``library`` (digests), ``torch`` (its version). If finished runs of one chapter differ
        in the last three, ``version`` tells them apart. A name that is already taken is prefixed
        with ``parameter.`` or ``metric.``. A column of values of different kinds is text. In
        ``attrs``, the lists ``parameters`` and ``metrics`` say which columns are which, and the
        dict ``repeated`` names the runs that were left out, each with the run that it repeats.

    Raises
    ------
    NoResultsError
        If there are no runs.
    ChapterError
        If a folder or a file cannot be read.
    """
    records, repeated = _drop_repeated(_read(folders))
    if not records:
        raise NoResultsError(
            f"{' and '.join(map(str, folders))} holds no runs; name the folder that was given to "
            "fmnist run or fmnist sweep"
        )
    own = [{"run": run} | {n: r.get(n) for n in (*FIRST[1:], *LAST)} for run, r in records.items()]
    given = [record.get("parameters") or {} for record in records.values()]
    parts = [(r.get("metrics") or {}) | (r.get("networks") or {}) for r in records.values()]
    own, measured = pd.DataFrame(own), _unify(pd.json_normalize(parts))
    whole = {name for name in set().union(*given) if _is_whole(name, given)}
    given = _unify(pd.DataFrame(given, own.index)).astype(dict.fromkeys(whole, "Int64"))
    given = _rename(given, RESERVED_COLUMNS, "parameter")
    measured = _rename(measured, (*RESERVED_COLUMNS, *given), "metric")
    table = pd.concat([own[[*FIRST]], given, measured, own[[*LAST]]], axis="columns")
    _add_version(table)
    table.attrs = {"parameters": [*given], "metrics": [*measured], "repeated": repeated}
    return table


def varied_parameters(table):
    """List the parameters that differ between finished runs, except the seed.

    ``chapter`` comes first, if there are several; then the parameters with the most values.
    """
    finished = table[table["state"] == "finished"]
    counts = finished[["chapter", *table.attrs["parameters"]]].nunique(dropna=False)
    counts = counts[counts > 1].drop(SEED, errors="ignore")
    return sorted(counts.index, key=lambda name: (name != "chapter", -counts[name]))


def summarize(table):
    """Summarize each setting's finished runs over their seeds.

    Takes a table from `load_results`, and returns one with a row per setting and metric: varied
    parameters, ``version`` if there are several, ``metric, runs, mean, sd`` (the sample standard
    deviation; empty for one run), ``min, max``. Raises `NoResultsError` if no run is finished.
    """
    finished = table[table["state"] == "finished"]
    if finished.empty:
        raise NoResultsError("no run is finished; run fmnist sweep again to continue")
    setting = [*varied_parameters(table), *table.columns.intersection([VERSION])]
    measured = finished[[*table.attrs["metrics"], "seconds"]].select_dtypes("number")
    long = finished.melt(setting, list(measured), "metric")
    # Unsorted: the metrics in the order of the table.
    groups = long.groupby([*setting, "metric"], sort=False, dropna=False)["value"]
    summary = groups.agg(runs="count", mean="mean", sd="std", min="min", max="max").reset_index()
    return summary.sort_values(setting, kind="stable", ignore_index=True) if setting else summary


def best_setting(summary):
    """Return the row with the highest mean accuracy on the validation images, or None."""
    rows = summary[(summary["metric"] == SELECTION_METRIC) & summary["mean"].notna()]
    return None if rows.empty else rows.loc[rows["mean"].idxmax()]


def _read(folders):
    """Read the record of each run, by its name: its folder, as seen from a single one given."""
    records, seen = {}, set()
    for folder in folders:
        for place in find_runs(folder):
            if (real := place.resolve()) not in seen:  # folders may hold one another
                name = place if len(folders) > 1 else place.relative_to(folder)
                records[name.as_posix()] = load_latest(place)
                seen.add(real)
    # Bytes in a file's name that are not UTF-8 cannot be in a table.
    return json.loads(json.dumps(records, ensure_ascii=False).encode(errors="replace"))


def _drop_repeated(records):
    """Keep one of several equal runs, a finished one if there is one."""
    kept, repeated = {}, {}
    for run in sorted(records, key=lambda run: records[run]["state"] != "finished"):
        record = records[run]
        same = [record.get(name) for name in ("chapter", "parameters", *VERSIONS)]
        key = json.dumps(same, sort_keys=True) if record.get("parameters") is not None else run
        if kept.setdefault(key, run) != run:
            repeated[run] = kept[key]
    return {run: record for run, record in records.items() if run not in repeated}, repeated


def _add_version(table):
    """Add a column for the versions in which finished runs of one chapter differ, if they do."""
    finished = table[table["state"] == "finished"]
    counts = finished.groupby("chapter")[list(VERSIONS)].nunique(dropna=False).max()
    if differing := [name for name in VERSIONS if counts[name] > 1]:
        parts = [f"{n} " + table[n].fillna("unknown").str[: VERSIONS[n]] for n in differing]
        table[VERSION] = parts[0].str.cat(parts[1:], sep=", ")


def _unify(table):
    """Turn columns into text if their values differ in kind, or are lists and the like."""
    for name in (name for name in table if table[name].dtype.kind == "O"):
        kinds = {type(value) for value in table[name].dropna()}
        if kinds not in ({str}, {bool}):
            table[name] = table[name].map(str, na_action="ignore")
    return table


def _is_whole(name, given):
    """Tell whether a parameter is a whole number, and stays one although some runs lack it."""
    values = [values[name] for values in given if name in values]
    return all(type(value) is int and abs(value) < 2**63 for value in values)


def _rename(columns, taken, prefix):
    """Prefix the names that are already taken."""
    return columns.rename(columns=lambda name: f"{prefix}.{name}" if name in taken else name)

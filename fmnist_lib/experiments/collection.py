"""The results of many runs: one table, its summary over seeds, and the best setting."""

import pandas as pd

from fmnist_lib.common import PART, UserError
from fmnist_lib.experiments.run import RECORD, load_record

SEED = "seed"
SELECTION_METRIC = "val_accuracy"
FIRST, LAST = ("run", "chapter", "state"), ("seconds", "threads", "attempts", "error")
# Names that no parameter or metric can have: these columns, and those of the summary.
RESERVED_COLUMNS = (*FIRST, *LAST, "metric", "value", "runs", "mean", "sd", "min", "max")


class NoResultsError(UserError):
    """A folder holds no runs, or no finished one."""


def load_results(folder):
    """Collect all runs below a folder in one table.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    DataFrame
        One row per run: ``run`` (its folder), ``chapter``, ``state`` (``"finished"``, ``"failed"``,
        or ``"unfinished"`` where it was killed), each parameter, each metric (one of a network
        other than the chapter's own as ``02_cnn.val_accuracy``; one by class as
        ``test_recall.Bag``), ``seconds``, ``threads``, ``attempts``, ``error``. A name that is
        already taken is prefixed with ``parameter.`` or ``metric.``. In ``attrs``, the lists
        ``parameters`` and ``metrics`` say which columns are which.

    Raises
    ------
    NoResultsError
        If there are no runs.
    """
    places = {path.parent for path in (*folder.rglob(RECORD), *folder.rglob(f"{PART}*"))}
    # If a run was killed at its very end, its record is still in the temporary folder.
    places = sorted(place for place in places if not place.name.startswith(PART))
    if not places:
        raise NoResultsError(
            f"{folder} holds no runs; name the folder that was given to fmnist run or fmnist sweep"
        )
    records = [load_record(place) or {"state": "unfinished"} for place in places]
    given = [_rename(record.get("parameters", {}), (), "parameter") for record in records]
    parameters = {name: None for values in given for name in values}
    rows, metrics = [], {}
    for place, record, values in zip(places, records, given, strict=True):
        measured = record.get("metrics", {}) | record.get("networks", {})
        measured = pd.json_normalize(measured).to_dict("records")[0] if measured else {}
        measured = _rename(measured, parameters, "metric")
        row = {"run": place.relative_to(folder).as_posix()} | values | measured
        rows.append(row | {name: record.get(name) for name in (*FIRST[1:], *LAST)})
        metrics |= measured
    table = pd.DataFrame(rows)[[*FIRST, *parameters, *metrics, *LAST]]
    for name in parameters:
        if {type(values[name]) for values in given if name in values} == {int}:
            table[name] = table[name].astype("Int64")  # stays whole although some runs lack it
    table.attrs = {"parameters": list(parameters), "metrics": list(metrics)}
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
    parameters, ``metric, runs, mean, sd`` (the sample standard deviation; empty for one run),
    ``min, max``. Raises a `NoResultsError` if no run is finished.
    """
    finished = table[table["state"] == "finished"]
    if finished.empty:
        raise NoResultsError("no run is finished; run fmnist sweep again to continue")
    varied = varied_parameters(table)
    measured = finished[[*table.attrs["metrics"], "seconds"]].select_dtypes("number")
    long = finished.melt(varied, list(measured), "metric")
    # Unsorted: the metrics in the order of the table.
    groups = long.groupby([*varied, "metric"], sort=False, dropna=False)["value"]
    summary = groups.agg(runs="count", mean="mean", sd="std", min="min", max="max").reset_index()
    return summary.sort_values(varied, kind="stable", ignore_index=True) if varied else summary


def best_setting(summary):
    """Return the row with the highest mean accuracy on the validation images, or None."""
    rows = summary[(summary["metric"] == SELECTION_METRIC) & summary["mean"].notna()]
    return None if rows.empty else rows.loc[rows["mean"].idxmax()]


def _rename(values, taken, prefix):
    """Prefix the names that are already taken."""
    taken = (*RESERVED_COLUMNS, *taken)
    return {f"{prefix}.{n}" if n in taken else n: value for n, value in values.items()}

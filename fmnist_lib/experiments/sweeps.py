"""Sweeps: many runs of one chapter, described by a YAML file, and what is left to do.

    chapter: 02_cnn
    parameters: {epochs: 4, shuffle: true}   # the same in every run
    grid: {lr: [3e-4, 1e-3, 3e-3]}           # every combination
    list: [{batch_size: 64}, {batch_size: 256, label_smoothing: 0.1}]   # each with each combination
    seeds: 3                                 # 0, 1, 2; or a list
    threads: 1                               # of each run
    retries: 1                               # of a run that fails, unless it must fail again
    stop: {after: 3, below: median}          # stop early if below the median after 3 epochs

Everything but ``chapter`` is optional. A sweep has at most 10,000 runs.
"""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from statistics import linear_regression, mean

from fmnist_lib.chapters import ChapterError, find_chapter
from fmnist_lib.common import ParameterError, did_you_mean, digest, reading, shown
from fmnist_lib.experiments.parameters import TEXTS, convert_parameters, read_parameters
from fmnist_lib.experiments.run import (
    ATTEMPT,
    CERTAIN,
    Run,
    check_same,
    describe_run,
    load_json,
    load_record,
)

SWEEP = "sweep.json"  # lists all runs of a sweep, in its folder
MOST_RUNS = 10_000  # of a sweep; each is a folder
# Of a sweep file: characters, values (an alias counts as all that it stands for), and levels.
MOST_LETTERS, MOST_VALUES, DEEPEST = 1_000_000, 50_000, 20
TIMES = Path(__file__).parents[1] / "measured" / "chapter_times.json"


def _is_count(value, least=1):
    return type(value) is int and value >= least


def _is_list(value, kind=object):
    return isinstance(value, list) and bool(value) and all(isinstance(v, kind) for v in value)


# The entries of a sweep file: what their values should be, and a check of that.
ENTRIES = {
    "chapter": ("the name of a chapter, such as 02_cnn", lambda value: isinstance(value, str)),
    "parameters": ("'name: value' pairs", lambda value: isinstance(value, dict)),
    "grid": (
        "'name: [value, …]' pairs",
        lambda value: isinstance(value, dict) and all(map(_is_list, value.values())),
    ),
    "list": ("a list of 'name: value' pairs", lambda value: _is_list(value, dict)),
    "seeds": (
        "a whole number of 1 or more, or a list of seeds",
        lambda value: _is_count(value) or _is_list(value),
    ),
    "threads": ("a whole number of 1 or more", _is_count),
    "retries": ("a whole number of 0 or more", lambda value: _is_count(value, 0)),
    "stop": (
        "{after: EPOCHS, below: median}",
        lambda value: (
            isinstance(value, dict)
            and value.keys() == {"after", "below"}
            and _is_count(value["after"])
            and value["below"] == "median"
        ),
    ),
}


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for; the notebook is the chapter's, the runs are a tuple of `Run`."""

    notebook: Path
    runs: tuple
    threads: int
    retries: int
    stop: int  # epoch from which a run below the median is stopped early; 0: none is


@dataclass(frozen=True)
class Plan:
    """What a sweep has finished in a folder, and what is left.

    Attributes
    ----------
    sweep : Sweep
    folder : Path
    finished : dict of str to dict
        The records of the runs that are finished or were stopped early, by the run's name.
    to_do : dict of str to Run
        The runs to execute, each by the name of its folder.
    failed : dict of str to str
        The runs that failed and would fail again, each with what went wrong.
    all : dict of str to Run
        All runs, each by the name of its folder.
    """

    sweep: Sweep
    folder: Path
    finished: dict
    to_do: dict
    failed: dict
    all: dict

    @property
    def runs(self):
        """The runs that this plan is about, as ``all`` has them: of a part, only those in it."""
        names = {*self.finished, *self.failed, *(run.name for run in self.to_do.values())}
        return {folder: run for folder, run in self.all.items() if run.name in names}


def load_sweep(file, notebooks="notebooks"):
    """Read a sweep file, and check every run in it.

    A chapter given as a path is relative to the file. Anything in the file that is unknown, of the
    wrong kind, empty, duplicated or refused raises `ParameterError`.
    """
    file = Path(file)
    content = _read(file)
    for key, value in content.items():
        if key not in ENTRIES:
            raise ParameterError(did_you_mean("entry", key, ENTRIES, file.name))
        form, is_allowed = ENTRIES[key]
        if not is_allowed(value):
            raise ParameterError(f"{key} in {file.name} is {shown(value)}, expected {form}")
    if "chapter" not in content:
        raise ParameterError(f"{file.name} names no chapter; write, say, 'chapter: 02_cnn'")
    chapter = content["chapter"]
    is_path = chapter.endswith(".ipynb")
    notebook = find_chapter(str(file.parent / chapter) if is_path else chapter, notebooks)
    runs = _name_runs(file, notebook, _choices(file, content))
    rule = content.get("stop", {"after": 0})
    return Sweep(
        notebook, tuple(runs), content.get("threads", 1), content.get("retries", 1), rule["after"]
    )


def run_name(values):
    """Turn what distinguishes a run into its name, which can name a folder on any system."""
    name = "_".join(f"{key}={value}" for key, value in values.items()) or "defaults"
    # Windows drops a dot at the end.
    plain = re.sub(r"[^\w.=+-]|\.$", "-", name, flags=re.ASCII)[:100]
    return plain if plain == name else f"{plain}-{identify('', values)[:8]}"


def make_plan(sweep, folder):
    """Compare a sweep with a folder: what is finished, what is left.

    Raises `ChapterError` if the folder cannot be read, or holds a finished run of other code.
    """
    folder, wanted = Path(folder), describe_run(sweep.runs[0])
    there = {path: load_record(path) for path in _subfolders(folder)}
    over = {path: r for path, r in there.items() if r and _is_over(r, sweep, wanted)}
    done = {identify(r["chapter"], r["parameters"]): path for path, r in over.items()}
    # What is unfinished there is running, or may go on.
    begun = {path: load_json(path / ATTEMPT) for path, record in there.items() if not record}
    owners = {
        path.name: identify(run["chapter"], run["parameters"])
        for path, run in {**over, **begun}.items()
        if run
    }
    plan = Plan(sweep, folder, {}, {}, {}, {})
    for run in sweep.runs:
        identity = identify(sweep.notebook.stem, run.parameters)
        is_free = owners.get(run.name, identity) == identity
        name = run.name if is_free else f"{run.name}-{identity[:8]}"
        if path := done.get(identity):
            name, record = path.name, over[path]
            if record["state"] == "failed":
                plan.failed[run.name] = record["error"]
            else:
                check_same(record, wanted | {"parameters": record["parameters"]}, path)
                plan.finished[run.name] = record
        else:
            plan.to_do[name] = run
        plan.all[name] = run
    return plan


def _subfolders(folder):
    with reading(folder, ChapterError):
        try:
            return [folder / name for name in os.listdir(folder)]
        except FileNotFoundError:
            return []


def take_part(plan, part, parts):
    """Keep of a plan the runs in one of several parts: of three, the first, the fourth, and so on.

    The parts are of all runs and not of those that are left, so they stay the same as runs finish.
    """
    names = {run.name for run in plan.sweep.runs[part - 1 :: parts]}
    return replace(
        plan,
        finished={name: record for name, record in plan.finished.items() if name in names},
        failed={name: error for name, error in plan.failed.items() if name in names},
        to_do={folder: run for folder, run in plan.to_do.items() if run.name in names},
    )


def _is_over(record, sweep, wanted):
    """Tell whether a run need not be executed again, since it would end in the same way."""
    if record["state"] == "failed":
        same = all(record.get(key) == wanted[key] for key in ("code", "library", "torch"))
        return same and record.get("cause") in CERTAIN
    return record["state"] == "finished" or bool(sweep.stop)


def estimate(plan):
    """Estimate the computing time of the runs that are left, from runs that are finished.

    Returns
    -------
    seconds : float or None
        If the runs follow one another.
    source : str
        Where the estimate comes from, or why there is none.
    """
    wanted = [run.parameters for run in plan.to_do.values()]
    finished = [record for record in plan.finished.values() if record["state"] == "finished"]
    seconds, source = estimate_each(plan.sweep.notebook.stem, finished, wanted)
    return None if seconds is None else sum(seconds), source


def estimate_each(chapter, finished, wanted):
    """Estimate the seconds of each run by its parameters, from records of finished runs.

    Returns a list, or None, and the source as `estimate` does.
    """
    done = [(_epochs(r["parameters"]), r["seconds"]) for r in finished if r.get("seconds")]
    source = "from the finished runs"
    if not done:
        times = json.loads(TIMES.read_text(encoding="utf-8"))
        if any(parameters.get("sample") for parameters in wanted):
            return None, "no run on the sample is finished yet"
        if chapter not in times["chapters"]:
            return None, "no run is finished yet"
        done = times["chapters"][chapter]
        source = "from runs of that chapter with one thread, on the machine of its authors"
    epochs, seconds = zip(*done, strict=True)
    numbers = [_epochs(parameters) for parameters in wanted]
    if len(set(epochs)) > 1:
        slope, intercept = linear_regression(epochs, seconds)
        return [max(0.0, intercept + slope * n) for n in numbers], source
    return [mean(seconds) * n / epochs[0] for n in numbers], source


def _epochs(parameters):
    """Return the epochs of a run; 1 if it has none, or something that is not a number of them."""
    epochs = parameters.get("epochs")
    return epochs if type(epochs) is int and 0 < epochs < 10**9 else 1


def identify(chapter, parameters):
    """Compute a digest that two runs share if they have the same chapter and parameters."""
    return digest(json.dumps([chapter, parameters], sort_keys=True))


def _name_runs(file, notebook, choices):
    """Check the parameters of each run, and give each run a name of its own."""
    known, varied, names, taken = read_parameters(notebook), _varied(choices), {}, set()
    for given in choices:
        values = convert_parameters(notebook.stem, known, given)
        parameters = Run(notebook, known, values).parameters
        name = run_name({key: parameters.get(key, values.get(key)) for key in varied})
        identity = identify(notebook.stem, parameters)
        if identity in names:
            raise ParameterError(
                f"{file.name} asks for the same run twice, as {names[identity]} and as {name}; "
                "leave one out"
            )
        if name.lower() in taken:
            name = f"{name}-{identity[:8]}"  # some file systems ignore case
        taken.add(name.lower())
        names[identity] = name
        yield Run(notebook, known, values, name)


def _read(file):
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's core schema, where PyYAML reads 010 as 8, yes as true and 1:30 as 90.

        It refuses a key that appears twice, of which PyYAML keeps the last, and tags such as !!int,
        and limits how large a file can grow in memory.
        """

        yaml_implicit_resolvers = {}  # noqa: RUF012
        size = depth = 0

        def compose_node(self, parent, index):
            event, before = self.peek_event(), self.size
            if getattr(event, "tag", None) not in (None, "!"):
                raise yaml.YAMLError(f"the tag {shown(event.tag)} is not allowed; leave it out")
            self.size, self.depth = self.size + 1, self.depth + 1
            if self.size > MOST_VALUES or self.depth > DEEPEST:
                raise yaml.YAMLError(
                    f"it has more than {MOST_VALUES:,} values, each alias counted as all that it "
                    f"stands for, or more than {DEEPEST} levels"
                )
            node = super().compose_node(parent, index)
            if not isinstance(event, yaml.AliasEvent):
                node.size = self.size - before
            elif hasattr(node, "size"):
                self.size += node.size
            else:
                raise yaml.YAMLError(f"the alias *{event.anchor} stands for what it is part of")
            self.depth -= 1
            return node

        def construct_mapping(self, node, deep=False):
            keys = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
            for key, count in keys.items():
                if count > 1:
                    raise yaml.YAMLError(f"the key {shown(key)} appears twice")
            return super().construct_mapping(node, deep)

    for kind, pattern in {"merge": "<<", "null": "null|Null|NULL|~|", **TEXTS}.items():
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{kind}", re.compile(rf"({pattern})\Z"), None
        )
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read(MOST_LETTERS + 1)
        if len(text) > MOST_LETTERS:
            raise yaml.YAMLError(f"it has more than {MOST_LETTERS:,} characters")
        content = yaml.load(text, Loader)
    except OSError as error:
        raise ParameterError(f"{file} cannot be read ({error}); name a YAML file") from None
    # ValueError for bytes that are not text, and for numbers of thousands of digits.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ParameterError(f"{file.name} is not a valid sweep file: {reason}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{file.name} has no entries; write, say, 'chapter: 02_cnn'")
    return content


def _choices(file, content):
    """List the parameters that each run is given."""
    fixed, grid = content.get("parameters", {}), content.get("grid", {})
    entries, seeds = content.get("list", [{}]), content.get("seeds", 0)
    axes = [*grid.items()]
    n_seeds = len(seeds) if isinstance(seeds, list) else max(seeds, 1)
    if prod([len(entries), n_seeds, *map(len, grid.values())]) > MOST_RUNS:
        raise ParameterError(
            f"{file.name} asks for more than {MOST_RUNS:,} runs; make several sweeps of it"
        )
    if seeds:
        axes.append(("seed", seeds if isinstance(seeds, list) else range(seeds)))
    names = [name for name, _ in axes]
    for name, count in Counter([*fixed, *names, *set().union(*entries)]).items():
        if count > 1:
            raise ParameterError(
                f"{name} appears more than once in {file.name}; give it in one of parameters, "
                "grid, list and seeds"
            )
    return [
        fixed | entry | dict(zip(names, values, strict=True))
        for entry in entries
        for values in product(*(values for _, values in axes))
    ]


def _varied(choices):
    """List the names whose values differ between runs."""
    names = dict.fromkeys(name for choice in choices for name in choice)
    return [name for name in names if len({repr(choice.get(name)) for choice in choices}) > 1]

"""Sweeps: many runs of one chapter, described by a YAML file.

    chapter: 02_cnn
    parameters: {epochs: 4, shuffle: true}   # the same in every run
    grid: {lr: [3e-4, 1e-3, 3e-3]}           # every combination
    list: [{batch_size: 64}, {batch_size: 256, label_smoothing: 0.1}]   # each with each combination
    seeds: 3                                 # 0, 1, 2; or a list
    threads: 1                               # of each run
    retries: 1                               # of a run that fails

Everything but ``chapter`` may be left out.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fmnist_lib.chapters import find_chapter
from fmnist_lib.common import ParameterError, did_you_mean
from fmnist_lib.experiments.parameters import check_parameters, read_parameters
from fmnist_lib.experiments.run import resolve

KEYS = ("chapter", "parameters", "grid", "list", "seeds", "threads", "retries")


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes
    ----------
    name : str
        What distinguishes it in the sweep: ``"lr=0.001_seed=0"``; the name of its folder, too.
    given : dict
        The parameters that are given to the chapter.
    parameters : dict
        All parameters that decide about its results.
    """

    name: str
    given: dict
    parameters: dict


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for.

    Attributes
    ----------
    notebook : Path
        The chapter.
    runs : tuple of Run
    threads : int
        Of each run.
    retries : int
        How often a run that failed is tried again.
    """

    notebook: Path
    runs: tuple
    threads: int = 1
    retries: int = 1


def load_sweep(file, notebooks="notebooks"):
    """Read a sweep file, and check every run in it.

    Parameters
    ----------
    file : path
    notebooks : path
        The folder of the chapters. A chapter that is given as a path is looked for beside the file.

    Returns
    -------
    Sweep

    Raises
    ------
    ParameterError
        For anything in it that is unknown, of another kind, empty, there twice, or refused.
    """
    file = Path(file)
    content = _read(file)
    for key in content:
        if key not in KEYS:
            raise ParameterError(did_you_mean("entry", key, KEYS, file.name))
    if not isinstance(content.get("chapter"), str):
        raise ParameterError(f"{file.name} names no chapter; write 'chapter: 02_cnn', say")
    chapter = content["chapter"]
    is_path = chapter.endswith(".ipynb")
    notebook = find_chapter(str(file.parent / chapter) if is_path else chapter, notebooks)
    known, runs, names, taken = read_parameters(notebook), [], {}, set()
    choices = _choices(file, content)
    varied = _varied(choices)
    for given in choices:
        values = check_parameters(notebook.stem, known, given)
        parameters = resolve(known, values)
        name = run_name({key: parameters.get(key, values.get(key)) for key in varied})
        identity = identify(notebook.stem, parameters)
        if identity in names:
            raise ParameterError(
                f"{file.name} asks twice for the same run, as {names[identity]} and as {name}; "
                "remove one"
            )
        if name.lower() in taken:
            name = f"{name}-{identity[:8]}"  # some file systems do not tell a from A
        taken.add(name.lower())
        names[identity] = name
        runs.append(Run(name, values, parameters))
    threads, retries = (_count(file, content, key, 1, least) for key, least in _LEAST.items())
    return Sweep(notebook, tuple(runs), threads, retries)


def run_name(values):
    """Make the name of a run, which is one for a folder, too, out of what distinguishes it.

    Parameters
    ----------
    values : dict

    Returns
    -------
    str
    """
    name = "_".join(f"{key}={value}" for key, value in values.items()) or "defaults"
    # What a folder can be called anywhere: Windows drops a dot at the end.
    plain = re.sub(r"[^\w.=+-]|\.$", "-", name, flags=re.ASCII)[:100]
    return plain if plain == name else f"{plain}-{identify('', values)[:8]}"


def identify(chapter, parameters):
    """Make a text that two runs share if they are the same, and else not.

    Parameters
    ----------
    chapter : str
    parameters : dict
        All that decide about the results, see `resolve`.

    Returns
    -------
    str
    """
    text = json.dumps([chapter, parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file):
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML's own takes the last of two equal keys without a word."""

        def construct_mapping(self, node, deep=False):
            merge = "tag:yaml.org,2002:merge"
            own = [key for key, _ in node.value if key.tag != merge]
            keys = [self.construct_object(key, deep=True) for key in own]
            for key, count in Counter(map(str, keys)).items():
                if count > 1:
                    raise ParameterError(f"{file.name} has the key {key!r} twice; remove one")
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise ParameterError(f"there is no sweep file {file}; name one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{file} cannot be read ({error}); name a YAML file") from None
    except ParameterError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # the latter for a date as 2024-13-01
        where = str(error).replace("\n", " ")
        raise ParameterError(f"{file.name} is not valid YAML: {' '.join(where.split())}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{file.name} holds no entries; write 'chapter: 02_cnn', say")
    return content


def _choices(file, content):
    """List the parameters that each run is given."""
    fixed = _part(file, content, "parameters", dict)
    grid = _part(file, content, "grid", dict)
    entries = _part(file, content, "list", list) if "list" in content else [{}]
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ParameterError(f"{name} in the grid is {values!r}, expected a list of values")
    for entry in entries:
        if not isinstance(entry, dict):
            raise ParameterError(f"{entry!r} in the list of {file.name} is not 'name: value' pairs")
    if not entries:
        raise ParameterError(f"the list of {file.name} is empty; remove it, or add an entry")
    seeds = _seeds(file, content)
    listed = set().union(*entries)
    sources = [*fixed, *grid, *listed, *(["seed"] if seeds else [])]
    for name, count in Counter(sources).items():
        if count > 1:
            raise ParameterError(
                f"{name} stands in {file.name} more than once; give it in one of parameters, grid, "
                "list and seeds"
            )
    axes = grid | ({"seed": seeds} if seeds else {})
    return [
        fixed | entry | dict(zip(axes, values, strict=True))
        for entry in entries
        for values in product(*axes.values())
    ]


def _seeds(file, content):
    seeds = content.get("seeds", [])
    if isinstance(seeds, list) and ("seeds" not in content or seeds):
        return seeds
    return list(range(_count(file, content, "seeds", 0, 1)))


def _part(file, content, key, kind):
    part = content.get(key, kind())
    if not isinstance(part, kind):
        form = "'name: value' pairs" if kind is dict else "a list of them"
        raise ParameterError(f"{key} in {file.name} is {part!r}, expected {form}")
    return part


_LEAST = {"threads": 1, "retries": 0}


def _count(file, content, key, default, least):
    value = content.get(key, default)
    if type(value) is not int or value < least:
        raise ParameterError(
            f"{key} in {file.name} is {value!r}, expected a whole number of {least} or more"
        )
    return value


def _varied(choices):
    """List the names whose values differ between runs."""
    names = dict.fromkeys(name for choice in choices for name in choice)
    return [name for name in names if len({repr(choice.get(name)) for choice in choices}) > 1]

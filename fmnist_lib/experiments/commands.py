"""The commands ``fmnist course``, ``run``, ``sweep``, ``status``, ``results`` and ``card``."""

import argparse
import re
import shlex
import signal
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from fmnist_lib.chapters import find_chapter
from fmnist_lib.common import ParameterError, did_you_mean, staged, writing
from fmnist_lib.progress import progress_bar

HEADLINE_METRICS = ("val_accuracy", "test_accuracy")
# For SIGTERM, with which batch systems end a job: clean up as after Ctrl-C.
INTERRUPT = signal.default_int_handler
RESULTS = ("results.csv", "results.parquet", "summary.csv", "results.png")


def _path(text):
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty; is the variable that holds it set?")
    return Path(text)


FOLDER = {"metavar": "FOLDER", "type": _path}


def add_commands(commands, chapters):
    """Add this wing's commands; the parser ``chapters`` has the option for the chapters' folder."""
    for add in (_add_course, _add_run, _add_sweep):
        add(commands, chapters)
    for add in (_add_status, _add_results, _add_card):
        add(commands)


def _add_course(commands, chapters):
    course = commands.add_parser(
        "course",
        parents=[chapters],
        help="execute the chapters and print the accuracies",
        description="Execute the chapters in order, with their default parameters.",
    )
    course.add_argument("-o", "--output", **FOLDER, default=Path("runs/course"))
    course.set_defaults(run=_course)


def _add_run(commands, chapters):
    run = commands.add_parser(
        "run",
        parents=[chapters],
        help="execute one chapter with parameters of your choice",
        description="Execute a chapter and keep its results in a folder: the notebook, a page to "
        "look at, results.json, and each network with its history. With a chapter's name, --help "
        "lists that chapter's parameters.",
        add_help=False,
    )
    run.add_argument("chapter", metavar="CHAPTER", nargs="?", help="02_cnn, or a notebook's path")
    given = {"dest": "given", "metavar": "NAME=VALUE", "action": "append", "default": []}
    run.add_argument("-p", **given, help="a parameter; may be repeated")
    run.add_argument("-o", "--output", **FOLDER, help="default: a folder in runs/")
    run.add_argument("--threads", metavar="N", type=_count, help="threads for the arithmetic")
    run.add_argument("-h", "--help", action="store_true", help="show this, and the parameters")
    run.set_defaults(run=_run, parser=run)


def _add_sweep(commands, chapters):
    sweep = commands.add_parser(
        "sweep",
        parents=[chapters],
        help="execute a chapter with many parameters, on many cores or machines",
        description="Execute the runs that a YAML file describes. Finished runs are not run again, "
        "so the same command continues where it was stopped.",
    )
    sweep.add_argument("file", metavar="FILE.yml", type=_path)
    sweep.add_argument("-o", "--output", **FOLDER, help="default: runs/ and the file's name")
    look = sweep.add_mutually_exclusive_group()
    dry_run = "only list the runs and estimate the time"
    look.add_argument("--dry-run", action="store_true", help=dry_run)
    commands_only = "only print a command for each run, for another program to start"
    look.add_argument("--list", action="store_true", help=commands_only)
    only = "execute one part of the sweep: 3/40 is the third of forty equal parts"
    sweep.add_argument("--only", metavar="K/N", type=_part, help=only)
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--workers", metavar="N", type=_count, help="runs at a time on this machine")
    scheduler = "address or scheduler file of a Dask cluster to run on instead"
    where.add_argument("--scheduler", metavar="ADDRESS", type=_address, help=scheduler)
    sweep.set_defaults(run=_sweep)


def _add_status(commands):
    status = commands.add_parser(
        "status",
        help="say how far a sweep is, wherever it was started",
        description="List the runs below a folder that are finished, running, failed, stopped "
        "early, interrupted or left, and estimate when all will be finished.",
    )
    status.add_argument("folder", **FOLDER)
    status.set_defaults(run=_status)


def _add_results(commands):
    results = commands.add_parser(
        "results",
        help="collect many runs in a table and a figure, and find the best settings",
        description="Read all runs below a folder, or below several, and write results.csv and "
        "results.parquet (one row per run), summary.csv (each metric over the seeds) and "
        "results.png. A run that is there twice counts once.",
    )
    results.add_argument("folders", **FOLDER, nargs="+")
    results.add_argument(
        "--x", metavar="COLUMN", help="default: the parameter with the most values"
    )
    results.add_argument("--y", metavar="COLUMN", help="default: val_accuracy")
    group = "a line in the figure for each value (default: the parameter with the next most values)"
    results.add_argument("--group", metavar="COLUMN", help=group)
    results.add_argument(
        "-o", "--output", **FOLDER, help="default: the folder given; required if several are"
    )
    results.set_defaults(run=_results)


def _add_card(commands):
    card = commands.add_parser(
        "card",
        help="write the model card of a trained network",
        description="Turn the record of a trained network into a model card (Markdown): network, "
        "data, settings, machine, metrics, and what the network is not for.",
    )
    card.add_argument("folder", **FOLDER, help="of the trained network")
    card.add_argument("-o", "--output", metavar="FILE", type=_path, help="default: standard output")
    card.set_defaults(run=_card)


def _count(text):
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _part(text):
    numbers = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    part, parts = map(int, numbers.groups() if numbers else (0, 0))
    if not 1 <= part <= parts:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a part such as 3/40, counted from 1/40 to 40/40"
        )
    return part, parts


def _address(text):
    if not text.strip():
        raise argparse.ArgumentTypeError("the address is empty; is the variable that holds it set?")
    return text


def _course(options):
    from fmnist_lib.experiments.execution import run_course

    def report(name, seconds):
        print(f"  {name:20} {seconds:4.0f} s", flush=True)

    print("executing the chapters (minutes; the bar shows cells and epochs)", flush=True)
    metrics = run_course(options.output, options.notebooks, report)
    print("\nbest validation accuracy, and accuracy on the test images")
    for name, values in metrics.items():
        print(f"  {name:20} {values['val_accuracy']:.4f}  {values['test_accuracy']:.4f}")
    print(f"\nwhere to look\n  {options.output}  the chapters as just executed")
    site = Path("book/_build/html/index.html")
    if site.is_file():
        print(f"  {site}  the site, with the published outputs")


def _run(options):
    from fmnist_lib.experiments.run import prepare_run, run_experiment
    from fmnist_lib.experiments.sweeps import run_name

    if options.chapter is None:
        options.parser.print_help()
        return 0 if options.help else 2
    notebook = find_chapter(options.chapter, options.notebooks)
    if options.help:
        options.parser.print_help()
        _print_parameters(notebook)
        return 0
    given = dict(_split(text) for text in options.given)
    if len(given) < len(options.given):
        raise ParameterError("a parameter is given twice; give each -p once")
    run = prepare_run(notebook, given)
    folder = options.output or Path("runs") / f"{notebook.stem}_{run_name(run.given)}"
    print(f"{notebook.stem} in {folder}", flush=True)
    signal.signal(signal.SIGTERM, INTERRUPT)
    record = run_experiment(run, folder, threads=options.threads)
    print(f"finished: {_summary_line(record)}; open:")
    page = folder / f"{notebook.stem}.html"
    print(f"  {page if page.is_file() else folder / notebook.name}")
    return 0


def _print_parameters(notebook):
    from fmnist_lib.experiments.parameters import RESERVED, read_parameters

    print(f"\nparameters of {notebook.stem}:")
    for parameter in read_parameters(notebook).values():
        if parameter.name not in RESERVED:
            value = f"{parameter.name}={parameter.default}"
            print(f"  {value:18} {parameter.kind:6} {parameter.help}")


def _split(text):
    name, sign, value = text.partition("=")
    if not sign:
        raise ParameterError(f"-p {text} has no value; write -p NAME=VALUE, as in -p epochs=5")
    return name, value


def _sweep(options):
    from fmnist_lib.experiments.sweeps import load_sweep, make_plan, take_part

    sweep = load_sweep(options.file, options.notebooks)
    plan = make_plan(sweep, options.output or Path("runs") / options.file.stem)
    if options.only:
        plan = take_part(plan, *options.only)
    if options.list:
        _print_commands(plan, options.notebooks)
        return 0
    total, counts = len(plan.runs), f"{len(plan.finished)} finished, {len(plan.to_do)} to do"
    print(f"{total} runs of {sweep.notebook.stem} in {plan.folder}: {counts}", flush=True)
    if options.dry_run:
        _print_plan(plan, options)
        return 0
    failed, n_stopped = _execute(plan, options) if plan.to_do else ({}, 0)
    failed = plan.failed | failed
    n_stopped += sum(record["state"] == "stopped" for record in plan.finished.values())
    for name, error in failed.items():
        before = " before, and would again" if name in plan.failed else ""
        print(f"failed{before}: {name}: {error}", file=sys.stderr)
    finished = f"{total - len(failed)} of {total} runs are finished"
    given_up = f", {n_stopped} of them given up early" if n_stopped else ""
    print(f"{finished}{given_up}; for the table and a figure:")
    print(f"  fmnist results {shlex.quote(str(plan.folder))}")
    return 1 if failed else 0


def _print_commands(plan, notebooks):
    notebook = plan.sweep.notebook
    is_chapter = notebook.parent == notebooks
    chapter = [notebook.stem if is_chapter else str(notebook)]
    options = ["--threads", str(plan.sweep.threads)]
    if is_chapter and notebooks != Path("notebooks"):
        options += ["--notebooks", str(notebooks)]
    for folder, run in plan.runs.items():
        given = [word for item in run.given.items() for word in ("-p", "{}={}".format(*item))]
        where = ["-o", str(plan.folder / folder)]
        print(shlex.join(["fmnist", "run", *chapter, *given, *where, *options]))


def _print_plan(plan, options):
    from fmnist_lib.experiments.cluster import local_workers
    from fmnist_lib.experiments.sweeps import estimate

    for name, record in plan.finished.items():
        print(f"  {name}: {record['state']}")
    for name in plan.failed:
        print(f"  {name}: failed before, and would again")
    for name in plan.to_do:
        print(f"  {name}: to do")
    seconds, source = estimate(plan)
    if seconds is None:
        print(f"no estimate of the time: {source}")
        return
    workers, where = 1, "with one worker"
    if options.scheduler:
        where += "; a cluster divides it by its workers"
    elif len(plan.to_do) > 1:  # one run is not shared
        workers = min(options.workers or local_workers(plan.sweep.threads), len(plan.to_do))
        where = f"with {workers} workers"
    print(f"about {_duration(seconds / workers)} {where} ({source})")


def _duration(seconds):
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _execute(plan, options):
    from fmnist_lib.experiments.cluster import run_sweep

    ended, total, slots = [], len(plan.to_do), 0
    signal.signal(signal.SIGTERM, INTERRUPT)
    with progress_bar(total, "sweep", unit="run", log=False) as bar:

        def report(event, name, detail):
            nonlocal slots
            if event == "slots":
                slots = detail
                line = f"{slots} runs at a time, threads of each: {plan.sweep.threads}"
            elif event == "unfit":
                line = f"not used: the worker {name}: {detail}"
            else:
                ended.append(event)
                bar.update()
                line = f"[{len(ended)}/{total}] {name}: {_ending(event, detail)}"
            bar.write(line)
            running, failed = min(slots, total - len(ended)), ended.count("failed")
            bar.set_postfix_str(f"{running} running, {failed} failed")
            sys.stdout.flush()

        try:
            failed = run_sweep(plan, options.scheduler, workers=options.workers, report=report)
            return failed, ended.count("stopped")
        except KeyboardInterrupt:
            command, kept = shlex.join(["fmnist", *sys.argv[1:]]), ended.count("finished")
            raise KeyboardInterrupt(
                f" after {kept} runs of this call, which are kept; to continue: {command}"
            ) from None


def _ending(event, detail):
    if event == "failed":
        return f"failed: {detail}"
    return _summary_line(detail) if event == "finished" else detail["error"]


def _summary_line(record):
    values = {name: record["metrics"].get(name) for name in HEADLINE_METRICS}
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    measured = "".join(f", {name} {value:.4f}" for name, value in numbers.items())
    return f"{record['seconds']:.0f} s{measured}"


def _status(options):
    from fmnist_lib.experiments.status import OPEN, STATES, estimate_end, read_status

    runs, now = read_status(options.folder), datetime.now(UTC)
    print(f"{len(runs)} runs in {options.folder}")
    states = {run["state"] for run in runs.values()}
    for state in (state for state in STATES if state in states):
        names = [name for name, run in runs.items() if run["state"] == state]
        print(f"  {len(names)} {state}")
        if state not in ("finished", "left"):
            for name in names:
                print(f"    {name}: {_describe(runs[name])}")
    if end := estimate_end(runs, now):
        print(f"expected end: {_clock(end)}, in {_duration((end - now).total_seconds())}")
    elif states & {*OPEN} and "running" not in states:
        print("nothing is running; to continue, repeat the command that was interrupted")


def _describe(run):
    if "error" in run:
        return run["error"]
    epochs = run.get("parameters", {}).get("epochs")
    done = f", {run['epochs_done']} of {epochs} epochs" if epochs else ""
    if "host" not in run:
        return f"just started{done}"
    return f"started {_clock(datetime.fromisoformat(run['started']))} on {run['host']}{done}"


def _clock(time):
    """Give the local time, with the date unless that is today's."""
    time = time.astimezone()
    return f"{time:%H:%M}" if time.date() == date.today() else f"{time:%Y-%m-%d %H:%M}"


def _results(options):
    from fmnist_lib.experiments import collection

    if not options.output and len(options.folders) > 1:
        raise ParameterError("several folders are given; name one for the table with -o")
    table = collection.load_results(*options.folders)
    states = table["state"].value_counts().to_dict()
    print(f"{len(table)} runs: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    _print_caveats(table)
    summary = collection.summarize(table)
    varied, measured = collection.varied_parameters(table), list(summary["metric"].unique())
    columns = ["chapter", *table.attrs["parameters"], *table.attrs["metrics"], "seconds"]
    for kind, known, names in (
        ("column", columns, [options.x, options.group]),
        ("metric", measured, [options.y]),
    ):
        for name in names:
            if name and name not in known:
                raise ParameterError(did_you_mean(kind, name, known, "the table of runs"))
    x = options.x or (varied[0] if varied else collection.SEED)
    y = options.y or (HEADLINE_METRICS[0] if HEADLINE_METRICS[0] in measured else "seconds")
    others = [name for name in varied if name not in (x, options.group)]
    group = options.group or (others.pop(0) if others else None)
    for metric in dict.fromkeys((y, *HEADLINE_METRICS)):
        if metric in measured:
            rows = summary[summary["metric"] == metric].drop(columns="metric")
            digits = dict.fromkeys(("mean", "sd", "min", "max"), "{:.4f}".format)
            print(f"\n{metric}\n{rows.to_string(index=False, formatters=digits)}")
    best = collection.best_setting(summary)
    if best is not None and summary.columns[0] != "metric":
        setting = ", ".join(f"{name}={value}" for name, value in best[:"metric"][:-1].items())
        spread = "" if best["runs"] < 2 else f", standard deviation {best['sd']:.4f}"
        print(f"\nbest by {best['metric']}: {setting} (mean {best['mean']:.4f}{spread})")
    if others:
        print(f"\nthe figure averages over {', '.join(others)} as well; for other lines: --group")
    print()
    _write_results(options.output or options.folders[0], table, summary, (x, y, group))


def _print_caveats(table):
    from fmnist_lib.experiments.collection import VERSION

    if repeated := table.attrs["repeated"]:
        run, kept = next(iter(repeated.items()))
        print(
            f"{len(repeated)} more are repeats and not counted; for example, {run} repeats {kept}"
        )
    if VERSION in table:
        counts = table[table["state"] == "finished"][VERSION].value_counts()
        found = "; ".join(f"{n} with {each}" for each, n in counts.items())
        print(f"runs with different code, library or PyTorch are kept apart: {found}")


def _write_results(folder, table, summary, axes):
    from fmnist_lib import plotting
    from fmnist_lib.experiments.collection import VERSION, NoResultsError

    x, y, group = axes
    finished = table[table["state"] == "finished"]
    if VERSION in table:
        lines = finished[[name for name in (group, VERSION) if name]].astype(str)
        group = ", ".join(lines)
        finished = finished.assign(**{group: lines.agg(", ".join, axis=1)})
    with staged(folder, "the table", NoResultsError) as part:
        table.to_csv(part / "results.csv", index=False)
        content = table.to_parquet(index=False)  # not to the path, which may not be UTF-8
        (part / "results.parquet").write_bytes(content)
        summary.to_csv(part / "summary.csv", index=False, float_format="%.6g")
        if x in finished and y in finished:
            figure = plotting.sweep_curves(finished, x, y, group).figure
            figure.savefig(part / "results.png", dpi=150)
        names = [name for name in RESULTS if (part / name).exists()]
    for name in names:
        print(f"written: {folder / name}")


def _card(options):
    from fmnist_lib.experiments.cards import model_card
    from fmnist_lib.trained import TrainedModelError

    card = model_card(options.folder)
    if options.output is None:
        # When output is redirected, the encoding of Windows has no arrows.
        sys.stdout.reconfigure(encoding="utf-8")
        print(card, end="")
        return
    with writing("the card", options.output, TrainedModelError):
        options.output.write_text(card, encoding="utf-8", newline="\n")
    print(f"written: {options.output}")

"""The commands ``fmnist course``, ``run``, ``sweep``, ``results`` and ``card``."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from fmnist_lib.chapters import find_chapter
from fmnist_lib.common import ParameterError, did_you_mean, writing
from fmnist_lib.progress import progress_bar

HEADLINE_METRICS = ("val_accuracy", "test_accuracy")
# For SIGTERM, with which batch systems end a job: clean up as after Ctrl-C.
INTERRUPT = signal.default_int_handler
FOLDER = {"metavar": "FOLDER", "type": Path}


def add_commands(commands, chapters):
    """Add this wing's commands; the parser ``chapters`` has the option for the chapters' folder."""
    course = commands.add_parser(
        "course",
        parents=[chapters],
        help="execute the chapters and print the accuracies",
        description="Execute the chapters in order, with their default parameters.",
    )
    course.add_argument("-o", "--output", **FOLDER, default=Path("runs/course"))
    course.set_defaults(run=_course)

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

    sweep = commands.add_parser(
        "sweep",
        parents=[chapters],
        help="execute a chapter with many parameters, on many cores or machines",
        description="Execute the runs that a YAML file describes. Finished runs are not run again, "
        "so the same command continues where it was stopped.",
    )
    sweep.add_argument("file", metavar="FILE.yml", type=Path)
    sweep.add_argument("-o", "--output", **FOLDER, help="default: runs/ and the file's name")
    dry_run = "only list the runs and estimate the time"
    sweep.add_argument("--dry-run", action="store_true", help=dry_run)
    sweep.add_argument("--workers", metavar="N", type=_count, help="runs at a time on this machine")
    scheduler = "address or scheduler file of a Dask cluster to run on instead"
    sweep.add_argument("--scheduler", metavar="ADDRESS", help=scheduler)
    sweep.set_defaults(run=_sweep)

    results = commands.add_parser(
        "results",
        help="collect many runs in a table and a figure, and find the best settings",
        description="Read all runs below a folder, and write there results.csv and results.parquet "
        "(one row per run), summary.csv (each metric over the seeds) and results.png.",
    )
    results.add_argument("folder", **FOLDER)
    results.add_argument(
        "--x", metavar="COLUMN", help="default: the parameter with the most values"
    )
    results.add_argument("--y", metavar="COLUMN", help="default: val_accuracy")
    results.add_argument("--group", metavar="COLUMN", help="a line in the figure for each value")
    results.add_argument("-o", "--output", **FOLDER, help="default: the same")
    results.set_defaults(run=_results)

    card = commands.add_parser(
        "card",
        help="write the model card of a trained network",
        description="Turn the record of a trained network into a model card (Markdown): network, "
        "data, settings, machine, metrics, and what the network is not for.",
    )
    card.add_argument("folder", **FOLDER, help="of the trained network")
    card.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    card.set_defaults(run=_card)


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


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
    from fmnist_lib.experiments.run import load_record, prepare_run, run_experiment
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
    was_there = (load_record(folder) or {}).get("state") == "finished"
    signal.signal(signal.SIGTERM, INTERRUPT)
    record = run_experiment(run, folder, threads=options.threads)
    print(f"{'already ' if was_there else ''}finished: {_summary_line(record)}; to look at:")
    print(f"  {folder / notebook.stem}.html")
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
    from fmnist_lib.experiments.sweeps import load_sweep, make_plan

    sweep = load_sweep(options.file, options.notebooks)
    plan = make_plan(sweep, options.output or Path("runs") / options.file.stem)
    counts = f"{len(plan.finished)} finished, {len(plan.to_do)} to do"
    print(f"{len(sweep.runs)} runs of {sweep.notebook.stem} in {plan.folder}: {counts}", flush=True)
    if options.dry_run:
        _print_plan(plan, options)
        return 0
    failed = _execute(plan, options) if plan.to_do else {}
    for name, error in failed.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    n_finished = len(sweep.runs) - len(failed)
    print(f"{n_finished} of {len(sweep.runs)} runs are finished; for the table and a figure:")
    print(f"  fmnist results {shlex.quote(str(plan.folder))}")
    return 1 if failed else 0


def _print_plan(plan, options):
    from fmnist_lib.experiments.cluster import local_workers
    from fmnist_lib.experiments.sweeps import estimate

    for name in plan.finished:
        print(f"  {name}: finished")
    for name in plan.to_do:
        print(f"  {name}: to do")
    seconds, source = estimate(plan)
    if seconds is None:
        print(f"no estimate of the time: {source}")
        return
    workers, where = 1, "with one worker; a cluster divides it by its workers"
    if not options.scheduler:
        workers = options.workers or local_workers(plan.sweep.threads)
        where = f"with {workers} workers"
    print(f"about {_duration(seconds / workers)} {where} ({source})")


def _duration(seconds):
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _execute(plan, options):
    from fmnist_lib.experiments.cluster import open_executor, run_sweep

    ended, total, threads = [], len(plan.to_do), plan.sweep.threads
    signal.signal(signal.SIGTERM, INTERRUPT)
    with progress_bar(total, "sweep", unit="run", log=False) as bar:

        def write(line):
            bar.write(line)
            running, failed = min(slots, total - len(ended)), ended.count("failed")
            bar.set_postfix_str(f"{running} running, {failed} failed")
            sys.stdout.flush()

        def report(event, run, detail):
            ended.append(event)
            bar.update()
            ending = _summary_line(detail) if event == "finished" else f"failed: {detail}"
            write(f"[{len(ended)}/{total}] {run}: {ending}")

        limits = {"workers": options.workers, "threads": threads}
        try:
            with open_executor(plan.folder, options.scheduler, **limits) as (executor, slots):
                # A cluster's workers may join later.
                count = slots or "no workers yet: 0"
                write(f"{count} runs at a time, threads of each: {threads}")
                return run_sweep(plan, executor, report)
        except KeyboardInterrupt:
            command, kept = shlex.join(["fmnist", *sys.argv[1:]]), ended.count("finished")
            raise KeyboardInterrupt(
                f" after {kept} runs of this call, which are kept; to go on: {command}"
            ) from None


def _summary_line(record):
    values = {name: record["metrics"].get(name) for name in HEADLINE_METRICS}
    measured = "".join(f", {name} {value:.4f}" for name, value in values.items() if value)
    return f"{record['seconds']:.0f} s{measured}"


def _results(options):
    from fmnist_lib.experiments import collection

    table = collection.load_results(options.folder)
    states = table["state"].value_counts().to_dict()
    print(f"{len(table)} runs: " + ", ".join(f"{n} {state}" for state, n in states.items()))
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
    y = options.y or (HEADLINE_METRICS[0] if HEADLINE_METRICS[0] in table else "seconds")
    for metric in dict.fromkeys((y, *HEADLINE_METRICS)):
        if metric in measured:
            rows = summary[summary["metric"] == metric].drop(columns="metric")
            digits = dict.fromkeys(("mean", "sd", "min", "max"), "{:.4f}".format)
            print(f"\n{metric}\n{rows.to_string(index=False, formatters=digits)}")
    best = collection.best_setting(summary)
    if best is not None and varied:
        setting = ", ".join(f"{name}={best[name]}" for name in varied)
        spread = "" if best["runs"] < 2 else f", standard deviation {best['sd']:.4f}"
        print(f"\nbest by {best['metric']}: {setting} (mean {best['mean']:.4f}{spread})")
    print()
    _write_results(options.output or options.folder, table, summary, (x, y, options.group))


def _write_results(folder, table, summary, axes):
    from fmnist_lib import plotting
    from fmnist_lib.experiments.collection import NoResultsError

    x, y, group = axes
    finished = table[table["state"] == "finished"]
    with writing("the table", folder, NoResultsError):
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "results.csv", index=False)
        table.to_parquet(folder / "results.parquet", index=False)
        summary.to_csv(folder / "summary.csv", index=False, float_format="%.6g")
        names = ["results.csv", "results.parquet", "summary.csv"]
        if x in finished and y in finished:
            figure = plotting.sweep_curves(finished, x, y, group).figure
            figure.savefig(folder / "results.png", dpi=150)
            names.append("results.png")
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

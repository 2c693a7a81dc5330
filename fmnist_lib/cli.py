"""The ``fmnist`` command: a thin face on the library."""

import argparse
import os
import sys
import warnings
from pathlib import Path

import fmnist_lib
from fmnist_lib.common import UserError
from fmnist_lib.course.commands import add_commands

DATA_HELP = "folder to look in first (default: the variable FMNIST_DATA)"


def main(argv=None):
    """Run the command and return its exit code.

    0; or, with one line on standard error: 1 where something failed, 2 for a request that cannot be
    met as it stands, 130 after Ctrl-C.
    """
    try:
        try:
            return _answer(argv)
        finally:
            sys.stdout.flush()  # here, and not at exit, where nobody could catch what follows
    except BrokenPipeError:
        # Whoever read the output has enough of it, as head has; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _answer(argv):
    options = _parser().parse_args(argv)
    warnings.showwarning = lambda message, *rest: print(f"fmnist: {message}", file=sys.stderr)
    if folder := os.environ.get("FMNIST_DATA"):
        # The chapters run in another folder than this command.
        os.environ["FMNIST_DATA"] = os.path.abspath(os.path.expanduser(folder))
    try:
        return options.run(options) or 0
    except KeyboardInterrupt as error:
        print(f"fmnist: stopped{''.join(error.args)}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"fmnist: this needs the package {error.name}, which is not installed; run "
            "'pip install -e \".[notebooks]\"' in the project's folder",
            file=sys.stderr,
        )
        return 1
    except UserError as error:
        print(f"fmnist: {error}", file=sys.stderr)
        return error.exit_code


def _parser():
    parser = argparse.ArgumentParser(prog="fmnist", description=fmnist_lib.__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=fmnist_lib.__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    chapters = argparse.ArgumentParser(add_help=False)
    chapters.add_argument(
        "--notebooks",
        metavar="FOLDER",
        type=Path,
        default=Path("notebooks"),
        help="of the chapters",
    )
    _add_data(commands)
    _add_course(commands, chapters)
    _add_run(commands, chapters)
    _add_sweep(commands, chapters)
    _add_results(commands)
    _add_card(commands)
    add_commands(commands, chapters)
    sample = commands.add_parser(
        "sample", help="write anew the sample that ships with the package (for maintainers)"
    )
    sample.add_argument("--data", metavar="FOLDER", type=Path, help=DATA_HELP)
    sample.set_defaults(run=_sample)
    return parser


def _add_data(commands):
    data = commands.add_parser(
        "data",
        help="find, fetch and verify the data set",
        description="Find Fashion-MNIST on this machine or download it, check every byte, and "
        "print the folder, which torchvision.datasets.FashionMNIST reads too.",
    )
    data.add_argument("--data", metavar="FOLDER", type=Path, help=DATA_HELP)
    data.add_argument(
        "--apt",
        action="store_true",
        help="where no mirror answers, take Debian's package through apt-get (not installed)",
    )
    data.set_defaults(run=_data)


def _add_course(commands, chapters):
    course = commands.add_parser(
        "course",
        parents=[chapters],
        help="execute the chapters and print the accuracies",
        description="Execute the chapters in order, with their default parameters.",
    )
    course.add_argument("-o", "--output", metavar="FOLDER", type=Path, default=Path("runs/course"))
    course.set_defaults(run=_course)


def _add_run(commands, chapters):
    run = commands.add_parser(
        "run",
        parents=[chapters],
        help="execute one chapter with parameters of your choice",
        description="Execute a chapter and keep what comes out in a folder: the notebook, a page "
        "to look at, results.json, and each network with its history. With a chapter's name, "
        "--help lists that chapter's parameters.",
        add_help=False,
    )
    run.add_argument("chapter", metavar="CHAPTER", nargs="?", help="02_cnn, or a notebook's path")
    run.add_argument(
        "-p",
        dest="given",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter; may be repeated",
    )
    run.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="default: one in runs/")
    run.add_argument("--threads", metavar="N", type=_count, help="for the chapter's arithmetic")
    run.add_argument("-h", "--help", action="store_true", help="show this, and the parameters")
    run.set_defaults(run=_batch, command="run", parser=run)


def _add_sweep(commands, chapters):
    sweep = commands.add_parser(
        "sweep",
        parents=[chapters],
        help="execute a chapter with many parameters, on many cores or machines",
        description="Execute the runs that a YAML file describes. What is finished is not run "
        "again, so the same command goes on where it was stopped.",
    )
    sweep.add_argument("file", metavar="FILE.yml", type=Path)
    sweep.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, help="default: runs/ and the file's name"
    )
    sweep.add_argument(
        "--dry-run", action="store_true", help="only list the runs and estimate the time"
    )
    sweep.add_argument("--workers", metavar="N", type=_count, help="runs at a time on this machine")
    sweep.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address or scheduler file of a Dask cluster to run on instead",
    )
    sweep.set_defaults(run=_batch, command="sweep")


def _add_results(commands):
    results = commands.add_parser(
        "results",
        help="put many runs into a table and a figure, and find the best settings",
        description="Read all runs below a folder, and write there results.csv and results.parquet "
        "(one row a run), summary.csv (each metric over the seeds) and results.png.",
    )
    results.add_argument("folder", metavar="FOLDER", type=Path)
    results.add_argument("--x", metavar="COLUMN", help="default: the parameter with most values")
    results.add_argument("--y", metavar="COLUMN", help="default: val_accuracy")
    results.add_argument("--group", metavar="COLUMN", help="a line in the figure for each value")
    results.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="default: the same")
    results.set_defaults(run=_batch, command="results")


def _add_card(commands):
    card = commands.add_parser(
        "card",
        help="write the model card of a trained network",
        description="Turn the record of a run into a model card (Markdown): network, data, "
        "settings, machine, metrics, and what the network is not for.",
    )
    card.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    card.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    card.set_defaults(run=_card)


def _data(options):
    from fmnist_lib.download import find_data

    print(f"Fashion-MNIST, verified: {find_data(options.data, apt=options.apt)}")


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


def _batch(options):
    from fmnist_lib.experiments import commands

    return getattr(commands, options.command)(options)


def _card(options):
    from fmnist_lib.experiments.cards import model_card
    from fmnist_lib.trained import TrainedModelError

    card = model_card(options.folder)
    if options.output is None:
        # Redirected, Windows would write in a code that has no arrows.
        sys.stdout.reconfigure(encoding="utf-8")
        print(card, end="")
        return
    try:
        options.output.write_text(card, encoding="utf-8", newline="\n")
    except OSError as error:
        raise TrainedModelError(
            f"the card cannot be written to {options.output} ({error.strerror}); make the folder, "
            "give rights there, or name another file"
        ) from None
    print(f"written: {options.output}")


def _sample(options):
    from fmnist_lib.data import SAMPLE_FILE, load_fashion_mnist, make_sample

    make_sample(load_fashion_mnist(options.data))
    print(f"written: {SAMPLE_FILE}")


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

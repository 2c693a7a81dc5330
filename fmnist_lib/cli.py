"""The ``fmnist`` command: a thin face on the library."""

import argparse
import os
import sys
import warnings
from pathlib import Path

import fmnist_lib

DATA_HELP = "folder to look in first (default: the variable FMNIST_DATA)"


def main(argv=None):
    """Run the command; return its exit code: 0, or 1 with one line on standard error."""
    options = _parser().parse_args(argv)
    warnings.showwarning = lambda message, *rest: print(f"fmnist: {message}", file=sys.stderr)
    if folder := os.environ.get("FMNIST_DATA"):
        # The chapters run in another folder than this command.
        os.environ["FMNIST_DATA"] = os.path.abspath(os.path.expanduser(folder))
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("fmnist: stopped", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"fmnist: this needs the package {error.name}, which is not installed; run "
            "'pip install -e \".[notebooks]\"' in the project's folder",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        if not _is_for_users(error):
            raise
        print(f"fmnist: {error}", file=sys.stderr)
        return 1
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="fmnist", description=fmnist_lib.__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=fmnist_lib.__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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

    course = commands.add_parser(
        "course",
        help="execute the chapters and print the accuracies",
        description="Execute the chapters in order, with their default parameters.",
    )
    course.add_argument("-o", "--output", metavar="FOLDER", type=Path, default=Path("runs/course"))
    course.add_argument("--notebooks", metavar="FOLDER", type=Path, default=Path("notebooks"))
    course.set_defaults(run=_course)

    card = commands.add_parser(
        "card",
        help="write the model card of a trained network",
        description="Turn the record of a run into a model card (Markdown): network, data, "
        "settings, machine, metrics, and what the network is not for.",
    )
    card.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    card.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    card.set_defaults(run=_card)

    sample = commands.add_parser(
        "sample", help="write anew the sample that ships with the package (for maintainers)"
    )
    sample.add_argument("--data", metavar="FOLDER", type=Path, help=DATA_HELP)
    sample.set_defaults(run=_sample)
    return parser


def _data(options):
    from fmnist_lib.files import find_data

    print(f"Fashion-MNIST, verified: {find_data(options.data, apt=options.apt)}")


def _course(options):
    from fmnist_lib.chapters import run_course

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


def _card(options):
    from fmnist_lib.cards import model_card
    from fmnist_lib.runs import RunError

    card = model_card(options.folder)
    if options.output is None:
        # Redirected, Windows would write in a code that has no arrows.
        sys.stdout.reconfigure(encoding="utf-8")
        print(card, end="")
        return
    try:
        options.output.write_text(card, encoding="utf-8", newline="\n")
    except OSError as error:
        raise RunError(
            f"the card cannot be written to {options.output} ({error.strerror}); make the folder, "
            "give rights there, or name another file"
        ) from None
    print(f"written: {options.output}")


def _sample(options):
    from fmnist_lib.data import SAMPLE_FILE, load_fashion_mnist, make_sample

    make_sample(load_fashion_mnist(options.data))
    print(f"written: {SAMPLE_FILE}")


def _is_for_users(error):
    # By name, because these are defined in modules that a quick command does not import.
    return type(error).__name__ in {"CheckpointError", "DataError", "RunError"}


if __name__ == "__main__":
    sys.exit(main())

"""The ``fmnist`` command: a thin layer over the library."""

import argparse
import os
import sys
import warnings
from pathlib import Path

from tqdm import tqdm

import fmnist_lib
import fmnist_lib.course.commands
import fmnist_lib.experiments.commands
from fmnist_lib.common import UserError

DATA_HELP = "folder that holds the data (default: the variable FMNIST_DATA)"


def main(argv=None):
    """Run the command and return its exit code.

    0 on success. Otherwise, with one line on standard error: 1 if something failed, 2 for a bad
    request, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # Its encoding may lack a letter in a folder's name.
        stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _dispatch(argv)
        finally:
            sys.stdout.flush()  # not at exit, where nothing could catch the error
    except BrokenPipeError:
        # The reader has closed the pipe, as head does. Discard the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(argv):
    options = _parser().parse_args(argv)
    warnings.showwarning = _show_warning
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
    except OSError as error:
        if not error.filename:
            raise
        print(
            f"fmnist: {error.filename} cannot be used ({error.strerror}); check its name and its "
            "permissions, or name another place",
            file=sys.stderr,
        )
        return 1


def _show_warning(message, *rest, **more):
    # In one line, above a progress bar if there is one.
    tqdm.write(f"fmnist: {' '.join(str(message).split())}", file=sys.stderr)


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
        help="folder of the chapters",
    )
    _add_data(commands)
    for wing in (fmnist_lib.experiments, fmnist_lib.course):
        wing.commands.add_commands(commands, chapters)
    return parser


def _add_data(commands):
    data = commands.add_parser(
        "data",
        help="find, fetch and verify the data set",
        description="Find Fashion-MNIST on this machine or download it, check every byte, and "
        "print the folder, which torchvision.datasets.FashionMNIST can read, too.",
    )
    data.add_argument("--data", metavar="FOLDER", type=Path, help=DATA_HELP)
    data.set_defaults(run=_data)


def _data(options):
    from fmnist_lib.download import find_data

    print(f"Fashion-MNIST, verified: {find_data(options.data)}")


if __name__ == "__main__":
    sys.exit(main())

"""The commands ``fmnist student`` and ``fmnist kit``: what they take, and what they print."""

import sys
from pathlib import Path

# What a kit may be without, and how it comes in.
OPTIONAL = {
    "slides": "there are none in book/_build/slides; 'make slides' makes them",
    "solutions": "--solved adds them",
    "wheels": "the packages have to come from the network, or with --wheels",
}


def add_student(commands, chapters):
    """Add ``fmnist student`` to the commands.

    Parameters
    ----------
    commands : argparse._SubParsersAction
    chapters : argparse.ArgumentParser
        With the option that names the folder of the chapters.
    """
    student = commands.add_parser(
        "student",
        parents=[chapters],
        help="write copies of the chapters in which the exercises are unsolved",
        description="Write a copy of each chapter to work in. Where the chapter has the solution "
        "of an exercise, the copy has a line to fill in. A copy that is there already is kept, "
        "with the answers in it.",
    )
    student.add_argument("folder", metavar="DIR", type=Path, help="where the copies go")
    student.add_argument(
        "--solved", action="store_true", help="the chapters with solutions and outputs instead"
    )
    student.add_argument(
        "--overwrite", action="store_true", help="replace copies that are there, answers and all"
    )
    student.set_defaults(run=_student)


def add_kit(commands, chapters):
    """Add ``fmnist kit`` to the commands.

    Parameters
    ----------
    commands : argparse._SubParsersAction
    chapters : argparse.ArgumentParser
        With the option that names the folder of the chapters.
    """
    kit = commands.add_parser(
        "kit",
        parents=[chapters],
        help="put all that a class needs without a network into one folder",
        description="Make a folder for a stick: the site, the notebooks to work in, the data, the "
        "library, and how to set up a laptop with them. An earlier kit in the folder is replaced.",
    )
    kit.add_argument("folder", metavar="DIR", type=Path, help="the kit")
    kit.add_argument(
        "--check",
        action="store_true",
        help="make nothing; see whether a file of the kit is missing, was changed or was added",
    )
    kit.add_argument(
        "--wheels",
        action="store_true",
        help="add the packages for this system and this version of Python, so that setting up a "
        "laptop like this one needs no network (downloads several gigabytes where PyTorch comes "
        "with CUDA)",
    )
    kit.add_argument("--solved", action="store_true", help="add the solved chapters")
    kit.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        help="folder to look for the data in first (default: the variable FMNIST_DATA)",
    )
    kit.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier kit even if it was changed since",
    )
    kit.set_defaults(run=_kit)


def _student(options):
    from fmnist_lib.course.student import write_student_notebooks

    _print_any_name()
    written = write_student_notebooks(
        options.folder, options.notebooks, solved=options.solved, overwrite=options.overwrite
    )
    for path, is_new in written.items():
        print(f"{'written' if is_new else 'kept'}: {path}")
    if not all(written.values()):
        print(
            "kept copies are as they were; --overwrite replaces them, answers and all, or name "
            "another folder"
        )


def _kit(options):
    from fmnist_lib.common import ParameterError
    from fmnist_lib.course import kit

    _print_any_name()
    making = [name for name in ("wheels", "solved", "data", "overwrite") if getattr(options, name)]
    if options.check and making:
        raise ParameterError(
            f"--check makes nothing, and --{making[0]} is about making a kit; give one of them"
        )
    if not options.check:
        kit.make_kit(
            options.folder,
            options.notebooks,
            data=options.data,
            solved=options.solved,
            wheels=options.wheels,
            overwrite=options.overwrite,
        )
        for name, hint in OPTIONAL.items():
            if not (options.folder / name).exists():
                print(f"without {name}: {hint}")
    found = kit.check_kit(options.folder)  # after making it, too: what counts is what can be read
    print(f"complete: {options.folder}, {found.files:,} files, {found.size / 1e6:,.0f} MB")


def _print_any_name():
    # The code of standard output may not know each letter in the name of a folder.
    sys.stdout.reconfigure(errors="backslashreplace")

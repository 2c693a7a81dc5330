"""The commands ``fmnist student`` and ``fmnist kit``: their options, and what they print."""

from pathlib import Path

from fmnist_lib.common import ParameterError


def add_commands(commands, chapters):
    """Add both commands; the parser ``chapters`` has the option for the chapters' folder."""
    student = commands.add_parser(
        "student",
        parents=[chapters],
        help="write copies of the chapters with the exercises unsolved",
        description="Write a copy of each chapter to work in. Where the chapter has the solution "
        "of an exercise, the copy has a line to fill in. An existing copy is kept, with any "
        "answers in it.",
    )
    student.add_argument("folder", metavar="DIR", type=Path, help="where the copies go")
    student.add_argument(
        "--solved", action="store_true", help="the chapters with solutions and outputs instead"
    )
    student.add_argument(
        "--overwrite", action="store_true", help="replace existing copies, including any answers"
    )
    student.set_defaults(run=_student)
    kit = commands.add_parser(
        "kit",
        parents=[chapters],
        help="pack everything a class without a network needs into one archive",
        description="Make an archive to hand out: the site, the notebooks to work in, the data, "
        "the library, and instructions for setting up a laptop. An earlier kit is replaced.",
    )
    kit.add_argument("archive", metavar="FILE.zip", type=Path, help="the kit")
    kit.add_argument(
        "--check", action="store_true", help="make nothing; check that an existing kit is complete"
    )
    kit.add_argument(
        "--wheels",
        action="store_true",
        help="download the packages for this system and Python version into the folder "
        "course-wheels next to the kit, so that setting up a laptop like this one needs no network "
        "(several gigabytes where PyTorch comes with CUDA)",
    )
    kit.add_argument("--solved", action="store_true", help="add the solved chapters")
    kit.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        help="folder that holds the data (default: the variable FMNIST_DATA)",
    )
    kit.add_argument(
        "--overwrite", action="store_true", help="also replace a file that is not a complete kit"
    )
    kit.set_defaults(run=_kit)


def _student(options):
    from fmnist_lib.course.student import write_student_notebooks

    written = write_student_notebooks(
        options.folder, options.notebooks, solved=options.solved, overwrite=options.overwrite
    )
    for path, is_new in written.items():
        print(f"{'written' if is_new else 'kept'}: {path}")
    if not all(written.values()):
        print("to replace the copies that were kept, answers included, add --overwrite")


def _kit(options):
    from fmnist_lib.course.kit import check_kit, make_kit

    if options.check:
        given = [n for n in ("wheels", "solved", "data", "overwrite") if getattr(options, n)]
        if given:
            raise ParameterError(
                f"--check makes nothing, but --{given[0]} is about making a kit; leave out one of "
                "the two"
            )
    else:
        make_kit(
            options.archive,
            options.notebooks,
            data=options.data,
            solved=options.solved,
            wheels=options.wheels,
            overwrite=options.overwrite,
        )
    n_files = check_kit(options.archive)  # a new kit, too, is read back
    size = options.archive.stat().st_size
    print(f"complete: {options.archive}, {n_files:,} files, {size / 1e6:,.0f} MB")

"""The kit: all that a class needs without a network, in one folder.

A folder is a complete kit if, and only if, its ``SHA256SUMS`` lists all that is in it; this list
comes last. A kit grows in a sub-folder ``.kit-…``, from which it is moved up when it is done. What
a kill leaves is the kit that was there before, or plainly none, and that sub-folder, by which the
next attempt knows what it may clear away.
"""

import os
import shutil
import sysconfig
import tempfile
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from string import Template

from fmnist_lib.common import UserError
from fmnist_lib.course.checksums import (
    LIST,
    compare,
    list_entries,
    list_files,
    names_only_here,
    read_list,
    remove,
    what_is_no_folder,
    write_list,
)
from fmnist_lib.course.student import copy_chapters
from fmnist_lib.course.wheels import build_library, download_packages
from fmnist_lib.download import FILE_NAMES, find_data, raw_folder
from fmnist_lib.progress import progress_bar

HERE = Path(__file__).parent
PART = ".kit-"
PAGES = "../site/book/{}.html"
LOCK, README = "requirements.lock", "README.txt"
SITE, SLIDES = Path("book/_build/html"), Path("book/_build/slides")
CONTENTS = {
    "site": "site/index.html: the course to read, in any browser",
    "slides": "slides/: the slides, for the front of the class",
    "notebooks": "notebooks/: the chapters to work in, with the exercises unsolved",
    "solutions": "solutions/: the chapters with the exercises solved, and with all outputs",
    "data": "data/: Fashion-MNIST",
    LOCK: f"{LOCK}: the packages that the library and the chapters need, each pinned",
    "wheels": "wheels/: these packages, as pip installs them without a network",
    LIST: f"{LIST}: all files of this folder, each with its SHA-256",
}
LICENCES = ("LICENSE", "LICENSE-text")
# What no kit is without, so that no other folder with such a list is taken for one.
ESSENTIAL = {README, LOCK, "site/index.html", *(f"data/{name}" for name in FILE_NAMES)}


class KitError(UserError):
    """A kit that cannot be made, or a folder that is no complete kit."""


def make_kit(
    folder,
    notebooks="notebooks",
    *,
    data=None,
    solved=False,
    wheels=False,
    overwrite=False,
    progress=True,
):
    """Make a kit, in place of an earlier one if there is one.

    Parameters
    ----------
    folder : path
        A new folder, an empty one, or that of an earlier kit.
    notebooks : path
        The folder of the chapters; what else a kit needs lies beside it, in the project.
    data : path, optional
        Where to look for the data first, as for `find_data`.
    solved : bool
        Add the solved chapters.
    wheels : bool
        Add the packages for this system and this version of Python; pip downloads them.
    overwrite : bool
        Replace an earlier kit even if files in it have been changed or added since.
    progress : bool
        Show progress bars.

    Raises
    ------
    KitError
        If a part cannot be read, or the folder holds anything else, is in use or cannot be written.
    ChapterError, DataError, WheelError
        If the chapters, the data, the library or its packages cannot be had.
    """
    folder, project = Path(folder), Path(os.path.realpath(notebooks)).parent
    chapters = {"notebooks": copy_chapters(notebooks, pages=PAGES)}
    if solved:
        chapters["solutions"] = copy_chapters(notebooks, solved=True, pages=PAGES)
    _check_project(project)
    try:
        with _alone_in(folder):
            _check_place(folder, overwrite, progress)
            folder.mkdir(parents=True, exist_ok=True)
            _clear_leftovers(folder)
            raw = raw_folder(find_data(data))
            part = Path(tempfile.mkdtemp(dir=folder, prefix=PART))
            try:
                _copy(_list_copies(project, raw, part), progress)
                _write_chapters(part, chapters)
                library = build_library(project, part)
                if wheels:
                    download_packages(part / LOCK, part / "wheels")
                _write_readme(part, library, first=min(chapters["notebooks"]))
                if bad := names_only_here(list_files(part)):
                    raise KitError(
                        f"the name {bad[0]} cannot be used on Windows, or only once, as it knows "
                        "no capital letters; give the page another name, and run 'make book' again"
                    )
                write_list(part, progress=progress)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            _move_up(part, folder)
    except OSError as error:
        raise KitError(
            f"the kit cannot be written to {folder} ({error.strerror}); make room or give rights "
            "there, or name another folder"
        ) from None


def check_kit(folder, *, progress=True):
    """Check that a folder is a complete kit: no file is missing, changed or added.

    Parameters
    ----------
    folder : path
    progress : bool
        Show a progress bar.

    Returns
    -------
    Comparison
        With the number of files and their size.

    Raises
    ------
    KitError
    """
    try:
        found = compare(folder, ESSENTIAL, progress=progress)
    except ValueError as error:
        raise KitError(
            f"{folder} is no complete kit ({error}); copy the kit anew, or make it anew in an "
            "empty folder"
        ) from None
    if found.differences:
        raise KitError(
            f"{folder} is not the kit that was made ({found.differences}); copy the kit anew, or "
            "make it anew with 'fmnist kit'"
        )
    return found


@contextmanager
def _reading():
    """Name a part of the project that cannot be read; or the kit's folder would be blamed."""
    try:
        yield
    except OSError as error:
        raise KitError(
            f"{error.filename} cannot be read ({error.strerror}); give rights to it or make it anew"
        ) from None


def _alone_in(folder):
    """Let nobody else on this machine make a kit there; a process that is killed lets go."""
    from filelock import FileLock, Timeout

    # Not in the folder, of which the lock would be a part, nor on a stick, which may know none.
    name = sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    try:
        lock = FileLock(Path(tempfile.gettempdir(), f"fmnist-kit-{name}.lock"), mode=0o666)
        return lock.acquire(blocking=False)
    except Timeout:
        raise KitError(
            f"another 'fmnist kit' is at work on {folder}; wait until it is done, then try again"
        ) from None


@_reading()
def _check_project(project):
    for name in (LOCK, "pyproject.toml", *LICENCES):
        if not (project / name).is_file():
            raise KitError(
                f"no {name} in {project}, expected the project that the chapters belong to; name "
                "its folder of chapters with --notebooks"
            )
    if not (project / SITE / "index.html").is_file():
        raise KitError(f"the site is not built (no {project / SITE}); run 'make book' first")


def _check_place(folder, overwrite, progress):
    """Refuse a folder with files that are not ours to replace."""
    if words := what_is_no_folder(folder):
        raise KitError(f"{words}; name a folder for the kit")
    entries = list_entries(folder) if folder.exists() else []
    if not entries or _was_cut_off(entries):
        return
    try:
        read_list(folder, ESSENTIAL)
    except ValueError:
        raise KitError(
            f"{folder} is not empty, and holds no complete kit; empty it yourself if nothing in it "
            "is needed, or name another folder"
        ) from None
    try:
        found = not overwrite and compare(folder, ignore=PART, progress=progress).differences
    except ValueError as error:
        found = error
    if found:
        raise KitError(
            f"{folder} holds a kit that was changed since ({found}); save what you need of it, "
            "then add --overwrite to replace all of it, or name another folder"
        )


def _was_cut_off(entries):
    known = {*CONTENTS, *LICENCES, README} - {LIST}
    ours = [name in known or name.endswith(".whl") for name in entries if not name.startswith(PART)]
    return len(ours) < len(entries) and all(ours)


def _clear_leftovers(folder):
    entries = list_entries(folder)
    # Without its list, a kit was cut off; by its part it is known as ours, so that goes last.
    for name in sorted(entries, key=lambda name: name.startswith(PART)):
        if name.startswith(PART) or LIST not in entries:
            remove(folder / name)


@_reading()
def _list_copies(project, raw, part):
    """List what is copied as it is: pairs of paths, from where and to where."""
    copies = [(project / name, part / name) for name in (LOCK, *LICENCES)]
    copies += [(raw / name, part / "data" / name) for name in FILE_NAMES]
    copies.append((HERE.parent / "sample" / "LICENSE", part / "data/LICENSE"))
    for name, source in (("site", project / SITE), ("slides", project / SLIDES)):
        if source.is_dir():
            copies += [(source / file, part / name / file) for file in list_files(source)]
    for source, _ in copies:
        source.open("rb").close()  # what cannot be read is told before anything is copied
    return copies


def _copy(copies, progress):
    total = sum(source.stat().st_size for source, _ in copies)
    with progress_bar(total, "copying", unit="B", unit_scale=True, show=progress) as bar:
        for source, target in copies:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)  # content only: a stick knows no permissions
            bar.update(source.stat().st_size)


def _write_chapters(part, chapters):
    for folder, texts in chapters.items():
        (part / folder).mkdir()
        for name, text in texts.items():
            (part / folder / name).write_text(text, encoding="utf-8", newline="\n")


def _write_readme(part, library, first):
    """Write how to set up a laptop with what is in this kit."""
    there = {*list_entries(part), LIST}
    python, packages = "3.11 or newer", ""
    network = "The second command needs a network, the others do not: do this ahead of the class."
    if "wheels" in there:
        system = f"{sysconfig.get_python_version()} on {sysconfig.get_platform()}"
        python, network = f"{system}, for which wheels/ was made", "No command needs a network."
        packages = "--no-index --find-links wheels "
    text = Template(HERE.joinpath("kit_readme.txt").read_text(encoding="utf-8")).substitute(
        contents="\n".join(words for name, words in CONTENTS.items() if name in there),
        python=python,
        network=network,
        packages=f"{packages}--no-deps --require-hashes -r {LOCK}",
        library=library,
        first=first,
    )
    (part / README).write_text(text, encoding="utf-8", newline="\n")


def _move_up(part, folder):
    """Put a kit that is done in the place of what is there; its list comes last."""
    (folder / LIST).unlink(missing_ok=True)
    for name in list_entries(folder):
        if name != part.name:
            remove(folder / name)
    for name in sorted(set(os.listdir(part)) - {LIST}):
        os.replace(part / name, folder / name)
    os.replace(part / LIST, folder / LIST)
    part.rmdir()

"""What lies in a folder, and the list of its files' SHA-256, in the form of ``sha256sum``."""

import hashlib
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fmnist_lib.progress import progress_bar

LIST = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
# What Linux, macOS and Windows put onto a stick by themselves.
_OF_SYSTEMS = re.compile(
    r"lost\+found|\._.*|\.(DS_Store|Trash.*|Trashes|fseventsd|Spotlight-V100)|"
    r"System Volume Information|\$RECYCLE\.BIN|Thumbs\.db|desktop\.ini"
)
_NOT_ON_WINDOWS = re.compile(
    r'.*[<>:"\\|?*\x00-\x1f].*|.*[. ]|(con|prn|aux|nul|com\d|lpt\d)(\..*)?', re.IGNORECASE
)


@dataclass(frozen=True)
class Comparison:
    """A folder beside its list.

    Attributes
    ----------
    missing, changed, extra : tuple of str
        Names of files, with ``/`` between folders: not there, of another content than listed, and
        not listed.
    files : int
        Number of files that are as they are listed.
    size : int
        Of the listed files that are there, in bytes.
    """

    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]
    files: int
    size: int

    @property
    def differences(self):
        """The first files of each kind in words; empty where the folder is as it is listed."""
        kinds = {"missing": self.missing, "changed": self.changed, "extra": self.extra}
        return "; ".join(f"{kind}: {_few(names)}" for kind, names in kinds.items() if names)


def digest_of(path):
    """Compute the SHA-256 of a file, without holding all of it in memory.

    Parameters
    ----------
    path : path

    Returns
    -------
    str
        In hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def what_is_no_folder(folder):
    """Tell what stands where a folder is wanted, or above it.

    Parameters
    ----------
    folder : path

    Returns
    -------
    str or None
        A path, and what it is; None where there is a folder, or one can be made.
    """
    for path in (Path(folder), *Path(folder).parents):
        if os.path.isdir(path):
            return None
        if os.path.lexists(path):
            return f"{path} is {'a file' if os.path.exists(path) else 'a link to nothing'}"
    return None


def list_entries(folder):
    """List what lies in a folder, but for what systems put there by themselves.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of str
        Names of files and folders, sorted.
    """
    return sorted(name for name in os.listdir(folder) if not _OF_SYSTEMS.fullmatch(name))


def list_files(folder):
    """List the files in a folder and its sub-folders, as `list_entries` does.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of str
        Their names with ``/`` between folders, sorted.
    """
    found = []
    for name in list_entries(folder):
        path = Path(folder, name)
        inside = path.is_dir() and not path.is_symlink()
        found += [f"{name}/{below}" for below in list_files(path)] if inside else [name]
    return sorted(found)


def remove(path):
    """Remove a file, a link, or a folder with all that is in it.

    Parameters
    ----------
    path : Path
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def names_only_here(names):
    """Find the names that a stick or Windows would not take.

    Parameters
    ----------
    names : sequence of str
        With ``/`` between folders.

    Returns
    -------
    list of str
        Last come those that differ from an earlier one in capital letters only.
    """
    seen = {}
    bad = [n for n in names if any(_NOT_ON_WINDOWS.fullmatch(step) for step in n.split("/"))]
    return bad + [name for name in names if seen.setdefault(name.lower(), name) != name]


def write_list(folder, *, progress=True):
    """Write the list of a folder into it.

    Parameters
    ----------
    folder : path
    progress : bool
        Show a progress bar.
    """
    digests, _ = _digests(folder, [n for n in list_files(folder) if n != LIST], progress)
    lines = (f"{digest}  {name}\n" for name, digest in digests.items())
    Path(folder, LIST).write_text("".join(lines), encoding="utf-8", newline="\n")


def read_list(folder, essential=frozenset()):
    """Read the list of a folder.

    Parameters
    ----------
    folder : path
    essential : set of str
        Files that it must name.

    Returns
    -------
    dict of str to str
        The SHA-256 of each file, in hexadecimal digits.

    Raises
    ------
    ValueError
        In words that say why, if the folder has none, or none that can be read or names these.
    """
    listed = {}
    with _in_words(folder):
        for line in Path(folder, LIST).read_text(encoding="utf-8").splitlines():
            if not (entry := _LINE.fullmatch(line)):
                raise ValueError(f"in {LIST}, {line[:80]!r} is no entry of a list of SHA-256")
            listed[entry[2]] = entry[1]
    if lacking := sorted(essential - listed.keys()):
        raise ValueError(f"{LIST} does not list {lacking[0]}")
    return listed


def compare(folder, essential=frozenset(), *, ignore=None, progress=True):
    """Compare a folder with its list.

    Parameters
    ----------
    folder : path
    essential : set of str
        As for `read_list`.
    ignore : str, optional
        No file is extra whose name begins so.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        As for `read_list`, or if another file cannot be read.
    """
    listed = read_list(folder, essential)
    with _in_words(folder):
        found = set(list_files(folder)) - {LIST}
        digests, size = _digests(folder, sorted(found & listed.keys()), progress)
    changed = tuple(name for name, digest in digests.items() if digest != listed[name])
    missing, extra = sorted(listed.keys() - found), sorted(found - listed.keys())
    extra = [name for name in extra if not (ignore and name.startswith(ignore))]
    return Comparison(
        tuple(missing), changed, tuple(extra), files=len(digests) - len(changed), size=size
    )


@contextmanager
def _in_words(folder):
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"in {LIST}, {error}") from None
    except OSError as error:
        words = what_is_no_folder(folder)
        if not words and not os.path.lexists(Path(folder, LIST)):
            words = f"there is no {LIST if os.path.isdir(folder) else 'such folder'}"
        words = words or f"{error.filename or 'a file'} cannot be read: {error.strerror}"
        raise ValueError(words) from None


def _digests(folder, names, progress):
    digests, sizes = {}, [Path(folder, name).stat().st_size for name in names]
    with progress_bar(sum(sizes), "checksums", unit="B", unit_scale=True, show=progress) as bar:
        for name, size in zip(names, sizes, strict=True):
            digests[name] = digest_of(Path(folder, name))
            bar.update(size)
    return digests, sum(sizes)


def _few(names):
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

"""A list of the SHA-256 of every file in a folder, in the form of ``sha256sum``."""

import hashlib
import os
import re
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


def write_list(folder, *, progress=True):
    """Write the list of a folder into it.

    Parameters
    ----------
    folder : path
    progress : bool
        Show a progress bar.
    """
    digests, _ = _digest(folder, [n for n in list_files(folder) if n != LIST], progress)
    lines = (f"{digest}  {name}\n" for name, digest in digests.items())
    Path(folder, LIST).write_text("".join(lines), encoding="utf-8", newline="\n")


def read_list(folder):
    """Read the list of a folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of str to str
        The SHA-256 of each file, in hexadecimal digits.

    Raises
    ------
    ValueError
        If a line is no such entry.
    """
    listed = {}
    for line in Path(folder, LIST).read_text(encoding="utf-8").splitlines():
        if not (entry := _LINE.fullmatch(line)):
            raise ValueError(f"{line[:80]!r} is no entry of a list of SHA-256")
        listed[entry[2]] = entry[1]
    return listed


def compare(folder, *, ignore=None, progress=True):
    """Compare a folder with its list.

    Parameters
    ----------
    folder : path
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
        As for `read_list`.
    """
    listed, found = read_list(folder), set(list_files(folder)) - {LIST}
    digests, size = _digest(folder, sorted(found & listed.keys()), progress)
    changed = tuple(name for name, digest in digests.items() if digest != listed[name])
    missing, extra = sorted(listed.keys() - found), sorted(found - listed.keys())
    extra = [name for name in extra if not (ignore and name.startswith(ignore))]
    return Comparison(
        tuple(missing), changed, tuple(extra), files=len(digests) - len(changed), size=size
    )


def _digest(folder, names, progress):
    digests, sizes = {}, [Path(folder, name).stat().st_size for name in names]
    with progress_bar(sum(sizes), "checksums", unit="B", unit_scale=True, show=progress) as bar:
        for name, size in zip(names, sizes, strict=True):
            with open(Path(folder, name), "rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            bar.update(size)
    return digests, sum(sizes)


def _few(names):
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

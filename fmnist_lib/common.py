"""Shared plumbing: user-facing errors, checks of numbers, staged writes, locks, digests."""

import errno
import hashlib
import os
import shutil
import tempfile
import threading
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path


class UserError(Exception):
    """An error that a user can cause. Its message says what to do, so no traceback is shown.

    Attributes
    ----------
    exit_code : int
        Exit code of a command that ends with it.
    """

    exit_code = 1

    def _render_traceback_(self):
        # IPython shows this instead.
        return [f"{type(self).__name__}: {self}"]


class ParameterError(UserError, ValueError):
    """A name that does not exist, or a value that is not allowed."""

    exit_code = 2


def did_you_mean(kind, name, known, owner):
    """Say that an owner has nothing of this kind and name, and suggest the nearest known name."""
    nearest = get_close_matches(str(name), known, n=1)
    guess = f"did you mean {nearest[0]}? It" if nearest else "it"
    return f"{owner} has no {kind} {shown(str(name))}; {guess} has {', '.join(known) or 'none'}"


def require(holds, name, value, expected):
    """Raise `ValueError` with what was found and what is expected, unless a condition holds."""
    if not holds:
        raise ValueError(f"{name} is {shown(value)}, expected {expected}")


LARGEST_INT = 2**63 - 1
"""What fits into 64 bits."""


def whole_number(name, value, least=0, most=LARGEST_INT):
    """Return a whole number as an int, or raise `ValueError`; True and 1.0 are not whole."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    limited = most < LARGEST_INT or (whole and value > most)
    limits = f"from {least} to {most}" if limited else f"of {least} or more"
    require(whole and least <= value <= most, name, value, f"a whole number {limits}")
    return int(value)


def shown(value):
    """Format a value for a message, cut short if it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def one_line(error):
    """Summarize an exception in one line: its type, and the first line of its message."""
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}".removesuffix(": ")


def digest(*parts):
    """Compute the SHA-256 of bytes, in hexadecimal digits.

    Parameters
    ----------
    *parts : bytes-like, str or Path
        Hashed in order: text as UTF-8, a path as the content of its file, which is never held in
        memory whole.
    """
    sha256 = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with open(part, "rb") as file:
                hashlib.file_digest(file, lambda: sha256)
        else:
            sha256.update(part.encode() if isinstance(part, str) else part)
    return sha256.hexdigest()


@contextmanager
def writing(what, place, error=UserError):
    """Turn an `OSError` in a ``with`` block into an ``error`` that names what and where.

    ``what`` is what is being written to ``place``, such as "the checkpoint".
    """
    try:
        yield
    except OSError as problem:
        raise error(
            f"{what} cannot be written to {place} ({problem.strerror or problem}); free some "
            "space, check the permissions, or name another place"
        ) from None


@contextmanager
def reading(place, error=UserError):
    """Turn an `OSError` in a ``with`` block into an ``error`` that names what cannot be read."""
    try:
        yield
    except OSError as problem:
        raise error(
            f"{place} cannot be read ({problem.strerror}); check its permissions, or name another "
            "folder"
        ) from None


@contextmanager
def staged(folder, what, error=UserError, *, last=None, part=None):
    """Write files or folders so that a kill leaves each one old or new, never half-written.

    Yields a temporary folder inside ``folder``, hence on the same disk. When the ``with`` block
    ends, its contents move up, replacing whatever has the same names; when the block fails, they
    are removed. A kill leaves the temporary folder, whose name begins with `PART`, behind.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    what : str
        What is being written, for the error message.
    error : type of UserError
        Raised if writing fails.
    last : str, optional
        Name of the file that marks the others as complete: it is removed first, and moved last.
    part : str, optional
        Name for the temporary folder, which then stays as it is when the block fails, and is taken
        up by the next attempt.
    """
    folder = Path(folder)
    with writing(what, folder, error):
        folder.mkdir(parents=True, exist_ok=True)
        with _open_part(folder, part) as part:
            yield part
            for path in part.rglob("*"):
                _flush(path)
            if last:
                (folder / last).unlink(missing_ok=True)
            for path in sorted(part.iterdir(), key=lambda path: path.name == last):
                target = folder / path.name
                if path.is_dir() and target.is_dir():
                    shutil.rmtree(target)
                os.replace(path, target)


PART = ".part-"
"""Prefix of the names of temporary folders."""


@contextmanager
def _open_part(folder, name):
    if name:
        part = folder / name
        part.mkdir(exist_ok=True)
        yield part
        part.rmdir()
    else:
        options = {"dir": folder, "prefix": PART, "ignore_cleanup_errors": True}
        with tempfile.TemporaryDirectory(**options) as part:
            yield Path(part)


def _flush(path):
    # Otherwise a power cut soon after the move could leave an empty file.
    if path.is_file():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


class LockError(UserError):
    """A file system has no locks."""


@contextmanager
def locked(path, stopped=lambda: False, *, wait=True):
    """Hold a lock on a file. The file stays; the system releases the lock if the process dies.

    While another process holds the lock, ``stopped()`` is called once per second; if it returns
    True, the wait ends. Without ``wait``, there is one attempt. Yields whether the lock was
    acquired. Raises `LockError` where the file system has none.
    """
    from filelock import FileLock, Timeout

    # Its soft lock would outlive a process that is killed.
    lock = FileLock(path, fallback_to_soft=False)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1 if wait else 0)
        except Timeout:
            if not wait or stopped():
                break
        except OSError as problem:
            if problem.errno not in NO_LOCKS:
                raise
            raise LockError(
                f"the file system of {path} has no locks ({problem.strerror}), which keep two "
                "processes from doing the same run at once; name a folder on another file system, "
                "or have this one mounted with locks (Lustre: the option flock)"
            ) from None
    try:
        yield lock.is_locked
    finally:
        lock.release()


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

_TURN = threading.RLock()


@contextmanager
def one_thread():
    """Let threads take turns at code that changes layers' modes or PyTorch's random state."""
    with _TURN:
        yield

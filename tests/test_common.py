"""The staged write, the lock, the digest and the near name that all rooms share."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from unittest.mock import Mock

import pytest

from fmnist_lib import common
from fmnist_lib.common import (
    LockError,
    UserError,
    did_you_mean,
    digest,
    locked,
    one_line,
    staged,
    writing,
)


class OwnError(UserError):
    pass


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def write(folder, version, *names):
    with staged(folder, "the thing", OwnError, last="record") as part:
        for name in names:
            (part / name).write_text(f"{name} {version}")


def test_all_files_appear_together_and_nothing_else_is_touched(tmp_path):
    folder = tmp_path / "new" / "folder"
    with staged(folder, "the thing") as part:
        (part / "a").write_text("a")
        (part / "below").mkdir()
        (part / "below" / "b").write_text("b")
        assert part.parent == folder
        assert contents(folder) == {}
    assert contents(folder) == {"a": "a"}
    (folder / "kept").write_text("kept")
    with staged(folder, "the thing") as part:
        (part / "below").mkdir()
        (part / "below" / "c").write_text("c")
    assert contents(folder) == {"a": "a", "kept": "kept"}
    assert contents(folder / "below") == {"c": "c"}  # a folder replaces the one of its name
    assert not list(folder.glob(f"{common.PART}*"))


def test_a_block_that_fails_changes_nothing(tmp_path):
    write(tmp_path, 1, "a", "record")

    def fail():
        with staged(tmp_path, "the thing", last="record") as part:
            (part / "a").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert contents(tmp_path) == {"a": "a 1", "record": "record 1"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_step_the_record_vouches_only_for_what_belongs_to_it(
    tmp_path, monkeypatch, step
):
    """Steps of the last moves: the old record is removed, then come a, b, and the new record."""
    write(tmp_path, 1, "a", "b", "record")
    steps = iter(range(step, -1, -1))

    def limited(function):
        def call(*args, **kwargs):
            if next(steps) == 0:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(common.os, "replace", limited(os.replace))
        patch.setattr(common.Path, "unlink", limited(common.Path.unlink))
        try:
            write(tmp_path, 2, "a", "b", "record")
            complete = True
        except KeyboardInterrupt:
            complete = False
    found = contents(tmp_path)
    versions = {text.split()[1] for text in found.values()}
    assert complete == (step >= 4)
    assert "record" not in found or versions == {found["record"].split()[1]}
    if complete:
        assert versions == {"2"}


def test_a_kill_in_the_middle_of_writing_leaves_the_old_files(tmp_path):
    write(tmp_path, 1, "a", "record")
    program = (
        "import sys, time; from fmnist_lib.common import staged\n"
        "with staged(sys.argv[1], 'the thing', last='record') as part:\n"
        "    (part / 'a').write_text('half'); print(flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert contents(tmp_path) == {"a": "a 1", "record": "record 1"}
    (left,) = tmp_path.glob(f"{common.PART}*")
    assert (left / "a").read_text() == "half"


def test_a_full_disk_is_one_sentence_and_the_old_files_stay(tmp_path, mount_disk):
    disk = mount_disk(tmp_path / "disk", "400k")
    write(disk, 1, "a", "record")
    message = r"^the thing cannot be written to .*No space left.*free some"
    with pytest.raises(OwnError, match=message), staged(disk, "the thing", OwnError) as part:
        (part / "a").write_bytes(bytes(600_000))
    assert contents(disk) == {"a": "a 1", "record": "record 1"}
    assert len(list(disk.iterdir())) == 2


def test_missing_permissions_are_reported_in_one_sentence(tmp_path, as_a_user):
    tmp_path.chmod(0o500)
    program = (
        "import sys; from fmnist_lib.common import staged, UserError\n"
        "try:\n"
        "    with staged(sys.argv[1], 'the thing'): print('entered')\n"
        "except UserError as error: print(error)"
    )
    command = [*as_a_user, sys.executable, "-c", program, tmp_path]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    tmp_path.chmod(0o700)
    assert printed.startswith(f"the thing cannot be written to {tmp_path} (Permission denied); ")
    assert "check the permissions" in printed


def test_an_error_of_another_kind_passes(tmp_path):
    with pytest.raises(ValueError, match="mine"), writing("the thing", tmp_path):
        raise ValueError("mine")
    with pytest.raises(OwnError, match=r"no strerror"), writing("the thing", tmp_path, OwnError):
        raise OSError("no strerror")


HOLD = (
    "import sys, time; from fmnist_lib.common import locked\n"
    "with locked(sys.argv[1]) as held: print(held, flush=True); time.sleep(60)"
)


def test_a_lock_is_held_by_one_process_and_released_when_that_is_killed(tmp_path):
    path = tmp_path / "lock"
    child = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"True\n"
    with locked(path, stopped=lambda: True) as held:
        assert not held
    child.kill()
    child.communicate()
    for _ in range(2):  # it is released at the end of the block, too
        with locked(path, stopped=lambda: True) as held:
            assert held


def test_digests_are_those_of_hashlib(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff" * 300_000)
    expected = hashlib.sha256(b"\xff" * 300_000 + "é".encode() + b"b").hexdigest()
    assert digest(tmp_path / "file", "é", memoryview(b"b")) == expected


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("epoch", ["epochs", "lr"], "a has no thing 'epoch'; did you mean epochs? It has epochs"),
        ("???", ["epochs", "lr"], "a has no thing '???'; it has epochs, lr"),
        ("x", [], "a has no thing 'x'; it has none"),
    ],
)
def test_the_nearest_name_is_suggested(name, known, expected):
    assert did_you_mean("thing", name, known, "a").startswith(expected)


def test_an_exception_becomes_one_line_of_bearable_length():
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("x" * 1000))) < 250


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    """As Lustre mounted without the option, and some network file systems."""
    pytest.importorskip("fcntl", reason="needs the locks of Unix")
    refuse = Mock(side_effect=OSError(number, os.strerror(number)))
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(LockError, match=r"has no locks \(.*; name a folder on another file system"):
        locked(tmp_path / "lock").__enter__()
    assert os.listdir(tmp_path) in ([], ["lock"])

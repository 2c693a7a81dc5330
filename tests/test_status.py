"""How far the runs in a folder are, as far as the folder alone tells."""

import errno
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from fmnist_lib import cli
from fmnist_lib.common import locked
from fmnist_lib.experiments import status
from fmnist_lib.experiments.status import StatusError, estimate_end, read_status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def begin(runs):
    """Write what an attempt writes when it starts: (name of its folder, parameters, others)."""

    def write(name, parameters, **others):
        attempt = {"chapter": "02_net", "parameters": parameters, "host": "node7", "pid": 1}
        attempt |= {"started": NOW.isoformat(), "attempts": 1} | others
        (runs / name).mkdir(parents=True, exist_ok=True)
        (runs / name / "attempt.json").write_text(json.dumps(attempt))
        (lock := runs / name / ".lock").touch()
        return lock

    return write


@pytest.fixture
def plan(runs):
    """Write the list of a sweep's runs: (its folder, seeds, other parameters)."""

    def write(folder, seeds, **others):
        listed = {f"seed={n}": {"seed": n} | others for n in seeds}
        content = {"chapter": "02_net", "threads": 1, "runs": listed}
        (runs / folder).mkdir(parents=True, exist_ok=True)
        (runs / folder / "sweep.json").write_text(json.dumps(content))

    return write


def states(folder):
    return {name: run["state"] for name, run in read_status(folder).items()}


def test_each_run_is_in_one_state(runs, put, begin, plan):
    plan(".", range(7))
    put("seed=0", {"seed": 0})
    put("seed=1", {"seed": 1}, state="failed", error="no luck")
    put("seed=2", {"seed": 2}, state="stopped", error="given up")
    lock = begin("seed=3", {"seed": 3})
    begin("seed=4", {"seed": 4})
    put("called otherwise", {"seed": 5})
    put("seed=3", {"seed": 3}, state="failed")  # by the attempt before
    with locked(lock):
        assert states(runs) == {
            "seed=0": "finished",
            "seed=1": "failed",
            "seed=2": "stopped",
            "seed=3": "running",
            "seed=4": "interrupted",
            "called otherwise": "finished",
            "seed=6": "left",
        }
    assert states(runs)["seed=3"] == "interrupted"
    assert states(runs / "seed=4") == {".": "interrupted"}


def test_a_run_that_ended_is_finished_whatever_else_is_there(runs, put, begin):
    put("a", {})
    begin("a", {})  # killed before it removed this
    assert states(runs) == {"a": "finished"}


def test_the_parts_of_a_sweep_may_come_from_several_machines(runs, put, plan):
    for name, seeds in (("one", (0, 2)), ("two", (1,))):
        plan(name, range(4))
        for n in seeds:
            put(f"{name}/seed={n}", {"seed": n})
    expected = dict.fromkeys(("one/seed=0", "one/seed=2", "two/seed=1"), "finished")
    assert states(runs) == expected | {"one/seed=3": "left"}


def test_a_folder_without_runs_is_refused(runs, plan):
    with pytest.raises(StatusError, match=r"runs cannot be read \(No such file"):
        read_status(runs)
    runs.mkdir()
    with pytest.raises(StatusError, match="holds no runs; name the folder"):
        read_status(runs)
    plan(".", [1])  # not one has begun
    assert states(runs) == {"seed=1": "left"}


def test_where_locks_do_not_work_the_state_is_unclear(runs, begin, monkeypatch):
    begin("a", {})
    fcntl = pytest.importorskip("fcntl")

    def fail(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    (run,) = read_status(runs).values()
    assert run["state"] == "unclear"
    assert "has no locks (No locks available)" in run["error"]


def test_someone_elses_runs_can_be_looked_at(runs, put, begin, as_a_user):
    put("seed=0", {"seed": 0})
    lock = begin("seed=1", {"seed": 1})
    os.chmod(lock, 0o444)
    command = [*as_a_user, sys.executable, "-m", "fmnist_lib.cli", "status", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 finished" in done.stdout
    assert "seed=1: its lock cannot be tried (Permission denied)" in done.stdout
    assert lock.exists()


# When all will have ended.


def run(state, epochs=1, **others):
    return {"state": state, "chapter": "02_net", "parameters": {"epochs": epochs}} | others


def seconds_left(*runs):
    end = estimate_end(dict(enumerate(runs)), NOW)
    return end and (end - NOW).total_seconds()


def test_the_end_is_when_as_many_at_a_time_have_done_the_rest():
    ago = (NOW - timedelta(seconds=40)).isoformat()
    known = [run("finished", epochs=n, seconds=100.0 * n) for n in (1, 2)]
    known += [run("failed"), run("stopped")]  # which are not begun again by themselves
    running = run("running", started=ago)
    assert seconds_left(*known, running) == 60
    assert seconds_left(*known, *[running] * 2, *[run("left")] * 3) == (2 * 60 + 300) / 2
    assert seconds_left(*known, running, run("interrupted", epochs=2)) == 60 + 200
    # The longest one holds up the end, however many there are.
    assert seconds_left(*known, running, run("running", epochs=5, started=ago)) == 460
    # One that takes longer than others did may end any time.
    assert seconds_left(*known, run("running", started="2026-03-01T11:00:00+00:00")) == 0
    assert seconds_left(*known, run("left")) is None  # nothing is running
    assert seconds_left(running) is None  # and nobody knows how long it takes


def test_status_says_where_and_since_when(runs, put, begin, plan, capsys, monkeypatch):
    plan(".", range(4), epochs=5)
    put("seed=0", {"seed": 0, "epochs": 5}, seconds=3600)
    put("seed=1", {"seed": 1, "epochs": 5}, state="failed", error="no luck")
    now = datetime.now(UTC)
    lock = begin("seed=2", {"seed": 2, "epochs": 5}, started=now.isoformat())
    monkeypatch.setattr(status, "read_curve", lambda folder, chapter: [0.5] * 3)
    with locked(lock):
        assert cli.main(["status", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"4 runs in {runs}\n  1 finished\n  1 running\n")
    assert re.search(r"    seed=2: started (\S+ )?\d\d:\d\d on node7, 3 of 5 epochs\n", printed)
    assert "  1 failed\n    seed=1: no luck\n" in printed
    assert "  1 left\n" in printed
    assert re.search(r"expected end: (\S+ )?\d\d:\d\d, in \d\.\d hours\n$", printed)
    assert cli.main(["status", str(runs)]) == 0
    assert "nothing is running; to continue, repeat the command" in capsys.readouterr().out

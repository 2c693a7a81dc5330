"""Sweeps on real clusters of real processes, and what is left when these are killed.

The runs are those of a tiny notebook that writes into a log when it starts and when it ends, so
that what was run twice can be told.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from fmnist_lib.experiments.run import load_record

CELLS = (
    """
lr: float = 0.1  # a number
seed: int = 0  # of nothing
pause: float = 0.0  # seconds
trouble: str = ""  # "die", "die once", "fail" or "fill"
log: str = ""  # a file
trained_dir: str = "trained"  # where the network is kept
""",
    """
import json, os, pathlib, signal, time
def note(what):
    with open(log, "a") as file:
        file.write(f"{what} lr={lr}_seed={seed}\\n")
note("start")
""",
    """
end = time.monotonic() + pause
while time.monotonic() < end:
    time.sleep(0.01)
if trouble == "fail":
    raise ValueError("no luck\\nat all")
if trouble == "die" or (trouble == "die once" and open(log).read().count(f"lr={lr}_") == 1):
    os.kill(os.getpid(), signal.SIGKILL)
""",
    """
folder = pathlib.Path(trained_dir, "tiny")
folder.mkdir(parents=True)
(folder / "record.json").write_text(json.dumps({"metrics": {"val_accuracy": lr + seed / 100}}))
if trouble == "fill":
    (folder / "weights.pt").write_bytes(bytes(600_000))
note("end")
""",
)


@pytest.fixture
def place(tmp_path, write_chapter):
    """Give a folder with the tiny notebook."""
    write_chapter(tmp_path / "tiny.ipynb", *CELLS)
    return tmp_path


@pytest.fixture
def write_sweep(place):
    def write(text="", pause=0.0, trouble="", lrs=(0.1, 0.2, 0.3), seeds=2):
        fixed = f"{{pause: {pause}, trouble: '{trouble}', log: '{place / 'log'}'}}"
        grid = f"{{lr: {list(lrs)}}}"
        (place / "s.yml").write_text(
            f"chapter: tiny.ipynb\nparameters: {fixed}\ngrid: {grid}\nseeds: {seeds}\n{text}\n"
        )

    return write


# Short, so that a lost connection is given up in the time of a test.
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}


@pytest.fixture
def start(place):
    """Start a process in a session of its own, and end what is left of it: (*command) -> Popen."""
    started = []

    def start(*command, prefix=()):
        child = subprocess.Popen(
            [*prefix, sys.executable, "-m", *map(str, command)],
            cwd=place,
            env=os.environ | QUICK,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


@pytest.fixture
def sweep(start):
    """Start a sweep in a process: (*options) -> Popen."""
    return lambda *options, **rest: start("fmnist_lib.cli", "sweep", "s.yml", *options, **rest)


@pytest.fixture
def cluster(start, place):
    """Start a scheduler and workers as processes: () -> address, scheduler, workers."""

    def make(port=0, n_workers=2, threads=1):
        file = place / f"scheduler-{port}-{time.monotonic()}.json"
        options = ("--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard")
        scheduler = start("distributed.cli.dask_scheduler", *options, "--port", port)
        until(file.exists)
        until(lambda: "address" in file.read_text())
        address = re.search(r'"address": "(.*?)"', file.read_text())[1]
        options = ("--nthreads", threads, "--no-dashboard", "--no-nanny", "--death-timeout", 20)
        workers = [
            start("distributed.cli.dask_worker", address, *options) for _ in range(n_workers)
        ]
        return address, scheduler, workers

    return make


def until(holds, seconds=90):
    deadline = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return result


def noted(place):
    """Count the lines of the log."""
    path = place / "log"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def finished(place):
    folders = (place / "runs" / "s").glob("lr*")
    records = {folder.name: load_record(folder) for folder in folders}
    return {name for name, record in records.items() if record and record["state"] == "finished"}


def kernels(process):
    """Find the kernels below a process; each is the child of the worker that waits for it."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def executed_by(kernel):
    """Read the notebook that a kernel executes; empty where it has ended meanwhile."""
    try:
        return "".join(path.read_text() for path in Path(kernel.cwd()).glob("*.ipynb"))
    except (psutil.Error, OSError):
        return ""


def kill_worker(client, kernel):
    """Kill the worker below a client that waits for a kernel; False if either has ended."""
    try:
        worker = kernel.parent()
        # Of a kernel whose worker is gone, the parent is a process that is none of ours.
        if worker not in psutil.Process(client.pid).children(recursive=True):
            return False
        worker.kill()
    except psutil.Error:
        return False
    return True


def kernels_for(place):
    """Find all kernels that work in a folder, whosever children they are."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(place) in process.cwd() and "ipykernel" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(child, code=0):
    printed, _ = child.communicate(timeout=180)
    assert child.returncode == code, printed
    assert "Traceback" not in printed, printed
    return printed


ALL = {f"lr={lr}_seed={seed}" for lr in (0.1, 0.2, 0.3) for seed in (0, 1)}


def test_a_sweep_on_this_machine_is_run_once(place, write_sweep, sweep):
    write_sweep()
    printed = end(sweep())
    assert "6 runs of tiny in runs/s: 0 finished, 6 to do" in printed
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/status", printed)
    assert "[6/6] " in printed
    assert "6 of 6 runs are finished" in printed
    assert finished(place) == ALL
    assert noted(place) == {f"{what} {name}": 1 for name in ALL for what in ("start", "end")}
    assert "6 finished, 0 to do" in end(sweep())
    assert noted(place).total() == 12


def test_a_sweep_on_a_cluster_that_is_there(place, write_sweep, sweep, cluster):
    write_sweep()
    address, _, workers = cluster()
    printed = end(sweep("--scheduler", address))
    assert "6 of 6 runs are finished" in printed
    assert finished(place) == ALL
    assert set(noted(place).values()) == {1}
    assert all(worker.poll() is None for worker in workers)
    write_sweep(seeds=3)
    printed = end(sweep("--scheduler", next(place.glob("scheduler-*.json"))))
    assert "6 finished, 3 to do" in printed
    assert noted(place).total() == 18


def test_two_runs_at_once_on_one_worker_keep_apart(place, write_sweep, sweep, cluster):
    write_sweep(pause=2)
    address, _, _ = cluster(n_workers=1, threads=2)
    assert "6 of 6 runs are finished" in end(sweep("--scheduler", address))
    records = {name: load_record(place / "runs" / "s" / name) for name in ALL}
    for record in records.values():
        values = record["parameters"]
        assert record["metrics"]["val_accuracy"] == values["lr"] + values["seed"] / 100
    starts = [line.split()[0] for line in (place / "log").read_text().splitlines()]
    assert ["start", "start"] in [starts[i : i + 2] for i in range(len(starts))]  # two at once


def test_no_scheduler_at_the_address(write_sweep, sweep):
    write_sweep()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    assert f"fmnist: no scheduler answers at {address}" in end(sweep("--scheduler", address), 1)


def test_a_worker_is_killed_in_the_middle_of_a_run(place, write_sweep, sweep):
    write_sweep(pause=4, seeds=1)
    client = sweep("--workers", 2)
    until(lambda: noted(place).total() == 2)
    until(lambda: any(kill_worker(client, kernel) for kernel in kernels(client)))
    assert "3 of 3 runs are finished" in end(client)
    done = noted(place)
    assert {line: n for line, n in done.items() if line.startswith("end")} == {
        f"end lr={lr}_seed=0": 1 for lr in (0.1, 0.2, 0.3)
    }
    assert sum(n for line, n in done.items() if line.startswith("start")) == 4
    until(lambda: not kernels_for(place))


def test_a_run_that_kills_each_worker_does_not_stop_the_others(place, write_sweep, sweep):
    """As where the memory is too small for one setting."""
    write_sweep(pause=1, seeds=1)
    client, killed = sweep("--workers", 2), 0
    while client.poll() is None:
        for kernel in kernels(client):
            if "lr = 0.2" in executed_by(kernel) and kill_worker(client, kernel):
                killed += 1
                break
        time.sleep(0.05)
    printed = end(client, 1)
    assert killed >= 4
    assert "failed: lr=0.2: its worker died, 4 times, for want of memory" in printed
    assert "2 of 3 runs are finished" in printed
    assert finished(place) == {"lr=0.1", "lr=0.3"}


def test_the_client_is_killed_and_started_again(place, write_sweep, sweep):
    write_sweep(pause=2)
    client = sweep("--workers", 2)
    until(lambda: len(finished(place)) >= 2)
    client.send_signal(signal.SIGKILL)
    client.wait()
    until(lambda: not kernels_for(place))  # they follow it
    before = finished(place)
    assert before < ALL
    assert "6 of 6 runs are finished" in end(sweep("--workers", 2))
    assert finished(place) == ALL
    assert all(noted(place)[f"{what} {name}"] == 1 for name in before for what in ("start", "end"))


def test_the_client_of_a_cluster_is_killed_and_the_runs_in_progress_go_on(
    place, write_sweep, sweep, cluster
):
    write_sweep(pause=3, seeds=1)
    address, _, _ = cluster()
    client = sweep("--scheduler", address)
    until(lambda: noted(place).total() == 2)
    client.send_signal(signal.SIGKILL)
    client.wait()
    assert "3 of 3 runs are finished" in end(sweep("--scheduler", address))
    assert noted(place) == {
        f"{what} lr={lr}_seed=0": 1 for lr in (0.1, 0.2, 0.3) for what in ("start", "end")
    }


def test_the_scheduler_is_lost_and_another_one_goes_on(place, write_sweep, sweep, cluster):
    write_sweep(pause=2)
    address, scheduler, workers = cluster()
    client = sweep("--scheduler", address)
    until(lambda: finished(place))
    os.killpg(scheduler.pid, signal.SIGKILL)
    printed = end(client, 1)
    assert "the connection to the scheduler is lost" in printed
    for worker in workers:
        os.killpg(worker.pid, signal.SIGKILL)
    until(lambda: not kernels_for(place))
    before = finished(place)
    assert before
    address, _, _ = cluster()
    assert "6 of 6 runs are finished" in end(sweep("--scheduler", address))
    assert all(noted(place)[f"{what} {name}"] == 1 for name in before for what in ("start", "end"))


class Proxy:
    """A line to the scheduler that can be cut and mended."""

    def __init__(self, port):
        self.target, self.sockets = port, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.server.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        self.shut(source, sink)

    def shut(self, *sockets):
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def cut(self):
        self.shut(*self.sockets)


def test_a_connection_that_comes_back_is_taken_up(place, write_sweep, sweep, cluster):
    write_sweep(pause=2)
    address, _, _ = cluster()
    proxy = Proxy(int(address.rpartition(":")[2]))
    client = sweep("--scheduler", proxy.address)
    until(lambda: finished(place))
    proxy.cut()
    printed = end(client)
    assert "resubmitted: the connection was lost" in printed
    assert "6 of 6 runs are finished" in printed
    assert all(noted(place)[f"end {name}"] == 1 for name in ALL)
    assert noted(place).total() == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_leaves_nothing_half_done(place, write_sweep, sweep, number):
    write_sweep(pause=3)
    client = sweep("--workers", 2)
    until(lambda: finished(place) and kernels(client))
    # Ctrl-C reaches every process of the terminal, a termination only the one that is named.
    (os.killpg if number == signal.SIGINT else os.kill)(client.pid, number)
    start = time.monotonic()
    printed = end(client, 130)
    assert time.monotonic() - start < 20
    assert re.search(
        r"fmnist: stopped after \d runs of this call, which are kept; to go on: fmnist sweep s.yml "
        r"--workers 2\n$",
        printed,
    )
    until(lambda: not kernels_for(place))
    assert not list(place.rglob(".part-*"))
    before = finished(place)
    assert "6 of 6 runs are finished" in end(sweep("--workers", 2))
    assert all(noted(place)[f"start {name}"] == 1 for name in before)


def test_ctrl_c_stops_the_runs_on_a_cluster_too(place, write_sweep, sweep, cluster):
    write_sweep(pause=60)
    address, _, workers = cluster()
    client = sweep("--scheduler", address)
    until(lambda: noted(place).total() == 2)
    os.killpg(client.pid, signal.SIGINT)
    end(client, 130)
    until(lambda: not kernels_for(place), seconds=10)
    assert all(worker.poll() is None for worker in workers)
    write_sweep()
    assert "6 of 6 runs are finished" in end(sweep("--scheduler", address))


def test_a_kernel_that_dies_is_tried_again(place, write_sweep, sweep):
    write_sweep(trouble="die once", seeds=1)
    assert "3 of 3 runs are finished" in end(sweep())
    records = [load_record(folder) for folder in (place / "runs" / "s").glob("lr*")]
    assert [record["attempts"] for record in records] == [2, 2, 2]


def test_a_run_that_always_fails_is_reported_and_the_others_go_on(place, write_sweep, sweep):
    write_sweep("retries: 2", lrs=[0.1, 0.2])
    text = (place / "s.yml").read_text()
    choices = "list: [{trouble: ''}, {trouble: die}, {trouble: fail}]"
    text = text.replace("trouble: '', ", "").replace("seeds: 2", choices)
    (place / "s.yml").write_text(text)
    printed = end(sweep(), 1)
    assert "2 of 6 runs are finished" in printed
    assert printed.count("failed: lr") == 0
    for lr in (0.1, 0.2):
        name = f"trouble=die_lr={lr}"
        assert (
            f"failed: {name}: the kernel of tiny died, for want of memory perhaps; the" in printed
        )
        name = f"trouble=fail_lr={lr}"
        path = place / "runs" / "s" / name
        assert (
            f"failed: {name}: tiny failed in its cell 4: ValueError: no luck; the notebook up to "
            f"there is {path / 'tiny.ipynb'}\n"
        ) in printed
        assert load_record(path)["attempts"] == 3
        assert "no luck" in (path / "tiny.ipynb").read_text()
    assert noted(place)["start lr=0.1_seed=0"] == 1 + 3 + 3


@pytest.fixture
def small_disk(place, mount_disk):
    """Give a folder on a disk of 4 MB."""
    return mount_disk(place / "disk", "4m")


def test_a_full_disk_loses_nothing_that_is_finished(place, write_sweep, sweep, small_disk):
    write_sweep("retries: 0", trouble="fill")
    printed = end(sweep("-o", "disk/s", "--workers", 1), 1)
    assert "No space left on device" in printed
    records = {
        path.parent.name: load_record(path.parent) for path in small_disk.rglob("results.json")
    }
    done = {name for name, record in records.items() if record and record["state"] == "finished"}
    assert 0 < len(done) < 6
    assert f"{len(done)} of 6 runs are finished" in printed
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    printed = end(sweep("-o", "disk/s", "--workers", 1))
    assert f"{len(done)} finished, {6 - len(done)} to do" in printed
    assert "6 of 6 runs are finished" in printed
    assert all(noted(place)[f"start {name}"] == 1 for name in done)


def test_a_run_without_permission_does_not_stop_the_others(place, write_sweep, sweep, as_a_user):
    write_sweep("retries: 0", seeds=1)
    closed = place / "runs" / "s" / "lr=0.2"
    closed.mkdir(parents=True)
    closed.chmod(0o555)
    printed = end(sweep(prefix=as_a_user), 1)
    assert (
        f"failed: lr=0.2: the run cannot be written to {closed} (Permission denied); make "
        "room or give rights there, or name another folder\n"
    ) in printed
    assert "2 of 3 runs are finished" in printed
    closed.chmod(0o755)
    assert "3 of 3 runs are finished" in end(sweep(prefix=as_a_user))


def test_a_sweep_without_permission_starts_nothing(place, write_sweep, sweep, as_a_user):
    write_sweep()
    (place / "runs").mkdir()
    (place / "runs").chmod(0o555)
    printed = end(sweep(prefix=as_a_user), 1)
    assert (
        f"fmnist: the folder {place / 'runs' / 's'} cannot be written (Permission denied); make "
        "room or give rights there, or name another one with -o\n"
    ) in printed
    assert not noted(place)


def test_a_worker_that_does_not_see_the_folder_is_told(place, write_sweep, sweep, start, cluster):
    """In a mount namespace of its own, a worker has another disk in that place."""
    hidden = place / "runs"
    hidden.mkdir()
    address, _, _ = cluster(n_workers=0)
    hide = f'mount -t tmpfs tmpfs {hidden} && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", hide, "sh")
    if sys.platform != "linux" or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs Linux and the right to mount")
    start("distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard", prefix=prefix)
    write_sweep()
    printed = end(sweep("--scheduler", address), 1)
    assert re.search(
        r"fmnist: the worker tcp://\S+ does not see the folder .*runs/s; name", printed
    )

"""Sweeps in real processes, here and on a real cluster, and what is left when these are killed.

The runs are those of a tiny notebook, which logs when it starts and when it ends, so that a run
that was executed twice is noticed. In between, it waits until the test opens a gate.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from importlib.metadata import version
from unittest.mock import Mock

import dask
import psutil
import pytest

from fmnist_lib.experiments import cluster
from fmnist_lib.experiments.run import load_record

CELLS = (
    """
lr: float = 0.1  # a number
trouble: str = ""  # "die", "die once" or "fail"
folder: str = ""  # of the log and the gate
trained_dir: str = "trained"  # where the network is kept
""",
    """
import json, os, pathlib, signal, time
log, gate, network = f"{folder}/log", f"{folder}/gate", pathlib.Path(trained_dir, "tiny")
def note(what):
    with open(log, "a") as file:
        file.write(f"{what} {lr} {trouble}\\n")
note("start")
""",
    """
network.mkdir(parents=True)
while not os.path.exists(gate):
    time.sleep(0.01)
if trouble == "fail":
    raise ValueError("no luck\\nat all")
if trouble == "die" or (trouble == "die once" and open(log).read().count("die once") == 1):
    os.kill(os.getpid(), signal.SIGKILL)
(network / "record.json").write_text(json.dumps({"best_epoch": 1, "metrics": {"val_accuracy": lr}}))
note("end")
""",
)
LRS = (0.1, 0.2, 0.3, 0.4)
# Short, so that a lost connection is given up in the time of a test.
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}


def until(holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def start_process(folder, *command):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | QUICK,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(*processes):
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


class Site:
    """A folder with the tiny notebook, the sweeps that run there, and what they left."""

    def __init__(self, folder):
        self.folder, self.log, self.gate = folder, folder / "log", folder / "gate"
        self.clients = []

    def write_sweep(self, lrs=LRS, text=""):
        fixed = f"{{folder: '{self.folder}'}}\n{text}"
        sweep = f"chapter: tiny.ipynb\ngrid: {{lr: {list(lrs)}}}\nparameters: {fixed}\n"
        (self.folder / "s.yml").write_text(sweep)

    def start(self, *options):
        client = start_process(self.folder, "fmnist_lib.cli", "sweep", "s.yml", *options)
        self.clients.append(client)
        return client

    def end(self, client, code=0):
        printed, _ = client.communicate(timeout=300)
        assert client.returncode == code, printed
        assert "Traceback" not in printed, printed
        return printed

    def sweep(self, *options, code=0):
        self.gate.touch()
        return self.end(self.start(*options), code)

    def noted(self):
        return Counter(self.log.read_text().split("\n")[:-1] if self.log.exists() else [])

    def records(self):
        records = [load_record(path) for path in (self.folder / "runs" / "s").glob("*=*")]
        return [record for record in records if record]

    def kernels(self):
        """Find all kernels that work in this folder, whosever children they are."""
        running = [process.info for process in psutil.process_iter(["cwd", "cmdline"])]
        # Of the processes of others, and of those that have just ended, psutil says None.
        here = [info for info in running if str(self.folder) in (info["cwd"] or "")]
        return [info for info in here if "ipykernel" in " ".join(info["cmdline"] or ())]

    def stop_after_two(self, *options):
        """Start a sweep, let two of its runs finish, and wait for two more to begin."""
        self.write_sweep((0.1, 0.2))
        self.sweep(*options)
        self.gate.unlink()
        self.write_sweep()
        client = self.start(*options)
        until(lambda: sum(n for line, n in self.noted().items() if "start" in line) == 4)
        return client


@pytest.fixture
def site(tmp_path, write_chapter):
    write_chapter(tmp_path / "tiny.ipynb", *CELLS)
    site = Site(tmp_path)
    site.write_sweep()
    yield site
    kill(*site.clients)


@pytest.fixture(scope="module")
def start_cluster(tmp_path_factory):
    """Start a scheduler and workers as processes: () -> scheduler file, scheduler, workers."""
    started = []

    def start(n_workers, threads):
        folder = tmp_path_factory.mktemp("cluster")
        options = ("--scheduler-file", file := folder / "scheduler.json", "--no-dashboard")
        where = ("--host", "127.0.0.1", "--port", 0)
        scheduler = start_process(folder, "distributed.cli.dask_scheduler", *options, *where)
        options += ("--nthreads", threads, "--no-nanny", "--death-timeout", 60)
        workers = [
            start_process(folder, "distributed.cli.dask_worker", *options) for _ in range(n_workers)
        ]
        started.extend([scheduler, *workers])
        until(lambda: file.exists() and "address" in file.read_text())
        return file, scheduler, workers

    yield start
    kill(*started)


@pytest.fixture(scope="module")
def shared_cluster(start_cluster):
    """Give the scheduler file of a cluster of one worker with two threads, for several tests."""
    file, _, _ = start_cluster(n_workers=1, threads=2)
    return file


ONCE = {f"{what} {lr} ": 1 for lr in LRS for what in ("start", "end")}


@pytest.mark.slow
def test_a_sweep_on_this_machine_executes_each_run_once(site):
    printed = site.sweep("--workers", 2)
    assert "4 runs of tiny in runs/s: 0 finished, 4 to do" in printed
    assert "2 runs at a time, threads of each: 1" in printed
    assert re.search(r"\[4/4\] lr=0\.\d: \d+ s, val_accuracy 0\.\d000", printed)
    assert "4 of 4 runs are finished" in printed
    assert "4 finished, 0 to do" in site.sweep()
    assert site.noted() == ONCE


@pytest.mark.slow
def test_failing_runs_are_retried_then_reported_and_the_others_go_on(site):
    choices = "list: [{trouble: ''}, {trouble: die once}, {trouble: die}, {trouble: fail}]"
    site.write_sweep([0.1], f"{choices}\nretries: 2")
    printed = site.sweep("--workers", 1, code=1)
    assert "2 of 4 runs are finished" in printed
    (died,) = re.findall(r"^failed: trouble=die: (.*)$", printed, re.MULTILINE)
    assert "kernel of tiny died, probably out of memory" in died
    (failed,) = re.findall(r"^failed: trouble=fail: (.*)$", printed, re.MULTILINE)
    notebook = site.folder / "runs" / "s" / "trouble=fail" / "tiny.ipynb"
    assert "failed in cell 4: ValueError: no luck" in failed
    assert failed.endswith(str(notebook))
    assert "no luck" in notebook.read_text()
    counts = {"": 1, "die once": 2, "die": 3, "fail": 3}
    assert {r["parameters"]["trouble"]: r["attempts"] for r in site.records()} == counts
    assert {trouble: site.noted()[f"start 0.1 {trouble}"] for trouble in counts} == counts


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_sweep_takes_its_kernels_along_and_keeps_finished_runs(site, number):
    client = site.stop_after_two("--workers", 2)
    # Ctrl-C reaches every process of the terminal, the others only the one that is named.
    (os.killpg if number == signal.SIGINT else os.kill)(client.pid, number)
    if number != signal.SIGKILL:
        command = r"stopped after 0 runs .* to go on: fmnist sweep s.yml --workers 2\n$"
        assert re.search(command, site.end(client, 130))
        assert not site.kernels()
        assert not list(site.folder.rglob(".part-*"))
    until(lambda: not site.kernels())
    assert {r["parameters"]["lr"] for r in site.records()} == {0.1, 0.2}
    assert "4 of 4 runs are finished" in site.sweep("--workers", 2)
    assert site.noted() == ONCE | {"start 0.3 ": 2, "start 0.4 ": 2}


@pytest.mark.slow
def test_a_worker_of_two_threads_keeps_its_runs_apart(site, shared_cluster):
    client = site.start("--scheduler", shared_cluster)
    until(lambda: site.noted().total() == 2)  # two at once
    site.gate.touch()
    assert "4 of 4 runs are finished" in site.end(client)
    assert site.noted() == ONCE
    found = {r["parameters"]["lr"]: r["metrics"]["val_accuracy"] for r in site.records()}
    assert found == {lr: lr for lr in LRS}


@pytest.mark.slow
def test_runs_on_a_cluster_outlive_a_killed_client(site, shared_cluster):
    client = site.stop_after_two("--scheduler", shared_cluster)
    client.kill()
    client.wait()
    assert "4 of 4 runs are finished" in site.sweep("--scheduler", shared_cluster)
    assert site.noted() == ONCE


@pytest.mark.slow
def test_ctrl_c_stops_the_runs_on_a_cluster(site, shared_cluster):
    client = site.stop_after_two("--scheduler", shared_cluster)
    client.send_signal(signal.SIGINT)
    site.end(client, 130)
    until(lambda: not site.kernels())
    assert "4 of 4 runs are finished" in site.sweep("--scheduler", shared_cluster)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_moves_to_another(site, start_cluster):
    file, _, workers = start_cluster(n_workers=2, threads=1)
    client = site.start("--scheduler", file)
    until(lambda: site.noted().total() == 2)
    kill(workers[0])
    until(lambda: len(site.kernels()) == 1)  # a kernel ends with its worker
    site.gate.touch()
    assert "4 of 4 runs are finished" in site.end(client)
    (again,) = (site.noted() - Counter(ONCE)).elements()  # one run started twice
    assert again.startswith("start")
    assert site.noted() == Counter(ONCE) + Counter([again])


@pytest.mark.slow
def test_a_lost_scheduler_is_one_sentence_and_another_one_goes_on(
    site, start_cluster, shared_cluster
):
    file, scheduler, _ = start_cluster(n_workers=1, threads=2)
    client = site.stop_after_two("--scheduler", file)
    kill(scheduler)
    assert "connection to the scheduler is lost; 0 runs" in site.end(client, 1)
    assert "4 of 4 runs are finished" in site.sweep("--scheduler", shared_cluster)
    assert site.noted()["start 0.1 "] == site.noted()["start 0.2 "] == 1


def test_no_scheduler_at_the_address(tmp_path):
    address = "tcp://127.0.0.1:1"  # a port that nothing uses
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(cluster.SweepError, match=f"no scheduler answers at {address}"),
        cluster.open_executor(tmp_path, address),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"tcp://w": ("0.0", True)}, r"worker tcp://w has fmnist-lib 0\.0, this is "),
        ({"tcp://w": (version("fmnist-lib"), False)}, "worker tcp://w does not see the folder "),
        (ImportError("nothing\nthere"), r"workers cannot execute runs \(ImportError: nothing\);"),
    ],
)
def test_a_worker_that_cannot_do_a_run_is_refused(tmp_path, answer, message):
    client = Mock(run=Mock(side_effect=[answer]))
    with pytest.raises(cluster.SweepError, match=message):
        cluster._check_workers(client, tmp_path)


def test_what_went_wrong_is_one_line():
    future, reported = Future(), []
    future.set_exception(OSError("no\nluck"))  # a defect, or one that Dask reports
    failed = cluster._collect({future: "a"}, lambda *event: reported.append(event))
    assert failed == {"a": "OSError: no"}
    assert reported == [("failed", "a", "OSError: no")]


@pytest.mark.parametrize(
    ("cores", "gigabytes", "threads", "workers"),
    [(8, 64, 1, 8), (8, 64, 3, 2), (8, 8, 1, 4), (2, 1, 4, 1)],
)
def test_workers_by_cores_and_memory(monkeypatch, cores, gigabytes, threads, workers):
    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", gigabytes * 10**9)
    assert cluster.local_workers(threads) == workers

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
from types import SimpleNamespace

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
# Short, so that a lost connection is given up in the time of a test.
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}


def until(holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return result


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

    def write_sweep(self, lrs=(0.1, 0.2, 0.3, 0.4), text=""):
        fixed = f"{{folder: '{self.folder}'}}\n{text}"
        sweep = f"chapter: tiny.ipynb\ngrid: {{lr: {list(lrs)}}}\nparameters: {fixed}\n"
        (self.folder / "s.yml").write_text(sweep)

    def start(self, *options):
        self.clients.append(
            start_process(self.folder, "fmnist_lib.cli", "sweep", "s.yml", *options)
        )
        return self.clients[-1]

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

    def finished(self):
        folders = (self.folder / "runs" / "s").glob("lr=*")
        records = {float(path.name[3:]): load_record(path) for path in folders}
        return {lr for lr, record in records.items() if record and record["state"] == "finished"}

    def kernels(self):
        """Find all kernels that work in this folder, whosever children they are."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in process.cwd() and "ipykernel" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

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


ALL = {0.1, 0.2, 0.3, 0.4}
ONCE = {f"{what} {lr} ": 1 for lr in ALL for what in ("start", "end")}


@pytest.mark.slow
def test_a_sweep_on_this_machine_executes_each_run_once(site):
    printed = site.sweep("--workers", 2)
    assert "4 runs of tiny in runs/s: 0 finished, 4 to do" in printed
    assert "2 runs at a time, threads of each: 1" in printed
    assert re.search(r"\[4/4\] lr=0\.\d: \d+ s, val_accuracy 0\.\d000", printed)
    assert "4 of 4 runs are finished" in printed
    assert "4 finished, 0 to do" in site.sweep()
    assert (site.finished(), site.noted()) == (ALL, ONCE)


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
    counts = {"trouble=": 1, "trouble=die-once": 2, "trouble=die": 3, "trouble=fail": 3}
    for path in notebook.parents[1].glob("trouble=*"):
        assert load_record(path)["attempts"] == counts[re.sub(r"-[0-9a-f]{8}$", "", path.name)]
    assert site.noted()["start 0.1 die"] == site.noted()["start 0.1 fail"] == 3
    assert site.noted()["start 0.1 "] == 1


@pytest.mark.slow
def test_a_killed_client_takes_its_kernels_along_and_finished_runs_are_kept(site):
    client = site.stop_after_two("--workers", 2)
    client.kill()
    until(lambda: not site.kernels())
    assert site.finished() == {0.1, 0.2}
    assert "4 of 4 runs are finished" in site.sweep("--workers", 2)
    assert site.finished() == ALL
    assert site.noted() == ONCE | {"start 0.3 ": 2, "start 0.4 ": 2}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_leaves_nothing_half_done(site, number):
    client = site.stop_after_two("--workers", 2)
    # Ctrl-C reaches every process of the terminal, a termination only the one that is named.
    (os.killpg if number == signal.SIGINT else os.kill)(client.pid, number)
    command = r"stopped after 0 runs .* to go on: fmnist sweep s.yml --workers 2\n$"
    assert re.search(command, site.end(client, 130))
    assert not site.kernels()
    assert not list(site.folder.rglob(".part-*"))
    assert "4 of 4 runs are finished" in site.sweep("--workers", 2)
    assert site.noted() == ONCE | {"start 0.3 ": 2, "start 0.4 ": 2}


@pytest.mark.slow
def test_a_worker_of_two_threads_keeps_its_runs_apart(site, shared_cluster):
    client = site.start("--scheduler", shared_cluster)
    until(lambda: site.noted().total() == 2)  # two at once
    site.gate.touch()
    assert "4 of 4 runs are finished" in site.end(client)
    assert site.noted() == ONCE
    for lr in ALL:
        record = load_record(site.folder / "runs" / "s" / f"lr={lr}")
        assert record["metrics"]["val_accuracy"] == record["parameters"]["lr"] == lr


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
    assert all(site.noted()[f"end {lr} "] == 1 for lr in ALL)
    assert site.noted().total() == 4 + 5  # one run started twice


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
        (("0.0", True), r"worker tcp://w has fmnist-lib 0\.0, this is "),
        ((version("fmnist-lib"), False), "worker tcp://w does not see the folder "),
        (ImportError("nothing\nthere"), r"workers cannot execute runs \(ImportError: nothing\);"),
    ],
)
def test_a_worker_that_cannot_do_a_run_is_refused(tmp_path, answer, message):
    def run(*arguments):
        if isinstance(answer, Exception):
            raise answer
        return {"tcp://w": answer}

    with pytest.raises(cluster.SweepError, match=message):
        cluster._check_workers(SimpleNamespace(run=run), tmp_path)


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

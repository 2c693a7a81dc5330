"""Sweeps in real processes, here and on a real cluster, and what is left when these are killed.

The runs are those of a tiny notebook, which logs when it starts and when it ends, so that a run
that was executed twice is noticed. In between, it waits until the test opens a gate.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import dask
import psutil
import pytest
from distributed import Client

from fmnist_lib import download
from fmnist_lib.download import DataError
from fmnist_lib.experiments import cluster
from fmnist_lib.experiments.parameters import Parameter
from fmnist_lib.experiments.run import WORK, Run, library_digest, load_record, torch_version
from fmnist_lib.experiments.stopping import median_rule, read_curve
from fmnist_lib.experiments.sweeps import load_sweep, make_plan
from fmnist_lib.models import build_model
from fmnist_lib.trained import save_trained
from fmnist_lib.training import Checkpoint, TrainConfig, fit

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
network.mkdir(parents=True, exist_ok=True)
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


def start_process(folder, *command, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | QUICK | environment,
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
def plan(tmp_path, write_chapter):
    """Plan one run that needs the data."""
    write_chapter(tmp_path / "tiny.ipynb", "data_dir: str = ''  # where", "print(1)")
    (tmp_path / "s.yml").write_text("chapter: tiny.ipynb")
    return make_plan(load_sweep(tmp_path / "s.yml"), tmp_path / "runs")


@pytest.fixture
def site(tmp_path, write_chapter):
    write_chapter(tmp_path / "tiny.ipynb", *CELLS)
    site = Site(tmp_path)
    site.write_sweep()
    yield site
    kill(*site.clients)


class Cluster:
    """A scheduler and its workers, each a process, and the scheduler's file."""

    def __init__(self, folder):
        self.folder, self.file, self.workers = folder, folder / "scheduler.json", []
        where = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard")
        self.scheduler = self._start("dask_scheduler", *where)
        until(lambda: self.file.exists() and "address" in self.file.read_text())

    def add(self, n_workers, threads, **environment):
        options = ("--nthreads", threads, "--no-nanny", "--death-timeout", 60, "--no-dashboard")
        for _ in range(n_workers):
            self.workers.append(self._start("dask_worker", *options, **environment))

    def _start(self, name, *options, **environment):
        command = (f"distributed.cli.{name}", "--scheduler-file", self.file, *options)
        return start_process(self.folder, *command, **environment)


@pytest.fixture(scope="module")
def start_cluster(tmp_path_factory):
    """Start a scheduler and workers: (number of workers, threads of each) -> Cluster."""
    started = []

    def start(n_workers, threads):
        started.append(cluster := Cluster(tmp_path_factory.mktemp("cluster")))
        cluster.add(n_workers, threads)
        return cluster

    yield start
    for each in started:
        kill(each.scheduler, *each.workers)


@pytest.fixture(scope="module")
def shared_cluster(start_cluster):
    """Give the scheduler file of a cluster of one worker with two threads, for several tests."""
    return start_cluster(n_workers=1, threads=2).file


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
    counts = {"": 1, "die once": 2, "die": 3, "fail": 1}  # the same error would come again
    assert {r["parameters"]["trouble"]: r["attempts"] for r in site.records()} == counts
    assert {trouble: site.noted()[f"start 0.1 {trouble}"] for trouble in counts} == counts
    printed = site.sweep("--workers", 1, code=1)
    assert "failed before, and would again: trouble=fail: tiny failed in cell 4: Val" in printed
    assert site.noted()["start 0.1 fail"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_sweep_takes_its_kernels_along_and_keeps_finished_runs(site, number):
    client = site.stop_after_two("--workers", 2)
    # Ctrl-C reaches every process of the terminal, the others only the one that is named.
    (os.killpg if number == signal.SIGINT else os.kill)(client.pid, number)
    if number != signal.SIGKILL:
        command = r"stopped after 0 runs .* to continue: fmnist sweep s.yml --workers 2\n$"
        assert re.search(command, site.end(client, 130))
        assert not site.kernels()
        assert not list(site.folder.rglob(".stop-*"))
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
    dask_cluster = start_cluster(n_workers=2, threads=1)
    client = site.start("--scheduler", dask_cluster.file)
    until(lambda: site.noted().total() == 2)
    kill(dask_cluster.workers[0])
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
    dask_cluster = start_cluster(n_workers=1, threads=2)
    client = site.stop_after_two("--scheduler", dask_cluster.file)
    kill(dask_cluster.scheduler)
    assert "connection to the scheduler is lost; finished runs are kept" in site.end(client, 1)
    assert "4 of 4 runs are finished" in site.sweep("--scheduler", shared_cluster)
    assert site.noted()["start 0.1 "] == site.noted()["start 0.2 "] == 1


@pytest.mark.slow
def test_late_workers_get_work_unless_they_are_unfit(site, start_cluster):
    """One comes with an edited library, one from an environment without it, one as it should be."""
    dask_cluster = start_cluster(n_workers=1, threads=1)
    edited = site.folder / "edited" / "fmnist_lib"
    shutil.copytree(Path(cluster.__file__).parents[1], edited)
    (edited / "data.py").open("a").write("# edited")
    (hidden := site.folder / "hidden" / "fmnist_lib.py").parent.mkdir()
    hidden.write_text("raise ModuleNotFoundError('No module named fmnist_lib')")
    client = site.start(*(where := ("--scheduler", dask_cluster.file)))
    until(lambda: site.noted().total() == 1)
    for folder in (edited.parent, hidden.parent):
        dask_cluster.add(1, 2, PYTHONPATH=str(folder))
    dask_cluster.add(1, 1)
    with Client(scheduler_file=str(dask_cluster.file)) as observer:
        until(lambda: len(observer.nthreads()) == 4 and site.noted().total() == 2)
    site.gate.touch()
    printed = site.end(client)
    assert re.search("not used: the worker tcp.*: its files of fmnist_lib differ f", printed)
    assert re.search("not used: the worker tcp.*: it cannot execute .*ModuleNotFoundError", printed)
    assert "2 runs at a time" in printed
    assert site.noted() == ONCE
    site.write_sweep((0.5,))
    kill(dask_cluster.workers[0], dask_cluster.workers[3])  # the good ones
    with Client(scheduler_file=str(dask_cluster.file)) as observer:
        until(lambda: len(observer.nthreads()) == 2)
    assert "no worker can execute the runs; tcp" in site.sweep(*where, code=1)


@pytest.mark.slow
def test_two_sweeps_of_one_folder_share_its_runs_and_stop_apart(site):
    first, second = (site.start("--workers", 1) for _ in range(2))
    until(lambda: site.noted().total() == 2)  # neither waits for the other's run
    first.send_signal(signal.SIGINT)
    site.end(first, 130)
    site.gate.touch()
    assert "4 of 4 runs are finished" in site.end(second)
    noted = site.noted()
    assert (noted.total(), max(noted.values())) == (9, 2)  # only the stopped run twice


def test_no_scheduler_at_the_address(plan, tmp_path):
    empty = tmp_path / "empty.json"
    for content, place in (("", "tcp://127.0.0.1:1"), ("", empty), ("{}", empty), ("[1]", empty)):
        empty.write_text(content)
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
            pytest.raises(cluster.SweepError, match=f"no scheduler answers at {place}"),
        ):
            cluster.run_sweep(plan, str(place))


def test_data_that_cannot_be_had_is_missed_before_the_first_run(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "MIRRORS", ())
    monkeypatch.setattr(download, "DEBIAN_FOLDER", tmp_path)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    with pytest.raises(download.DataError, match="not on this machine"):
        cluster.run_sweep(plan)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"library": "x"}, "its files of fmnist_lib differ from those here; install the same"),
        ({"torch": "1.0"}, "it has PyTorch .*, and this is 1.0; install the same"),
        ({"visible": Path("/nowhere/x")}, "it cannot see the folder /nowhere; name one with -o"),
        ({"roots": ["/nowhere"]}, "Fashion-MNIST is not on this machine"),
    ],
)
def test_what_a_worker_cannot_do(tmp_path, monkeypatch, change, fault):
    monkeypatch.setattr(download, "find_data", None)
    monkeypatch.setattr(
        cluster, "find_data", Mock(side_effect=DataError("Fashion-MNIST is not on this machine"))
    )
    asked = {
        "visible": tmp_path,
        "library": library_digest(),
        "torch": torch_version(),
        "roots": [],
    }
    assert re.match(fault or "$", cluster._probe(**asked | change))


@pytest.mark.parametrize(
    ("curves", "stopped"),
    [
        ((0.5, 0.6, 0.7), True),
        ((0.4, 0.4, 0.9), False),  # equal to the median is not below it
        ((0.6, 0.7), False),  # too few to tell
    ],
)
def test_a_run_below_the_median_of_the_others_is_stopped(tmp_path, curves, stopped):
    run = Run(Path("02_net.ipynb"), {}, {"epochs": 5}, "")
    run = replace(run, known={"epochs": Parameter("epochs", "int", 5, "")})
    stop_early = median_rule(run, tmp_path / "mine", after=2)

    def write(name, *accuracies):
        (folder := tmp_path / name / "02_net").mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"{n},{a}" for n, a in enumerate(accuracies))
        folder.joinpath("history.csv").write_text(f"epoch,val_acc\n{lines}\n")

    for number, last in enumerate(curves):
        write(f"other{number}", 0.9, last)
    write("short", 0.1)
    assert stop_early() == ""
    write("mine", 0.1)
    assert stop_early() == ""  # too early
    write("mine", 0.1, 0.4)
    words = "after epoch 2: its validation accuracy of 0.4000 is below 0.6000, the median of 3"
    assert (words in stop_early()) == stopped
    assert stop_early() == ""  # it is asked each second, and each epoch counts once


@pytest.mark.slow
def test_the_curve_of_a_run_in_progress_is_read_from_its_checkpoint(tmp_path, sample):
    place = tmp_path / "a" / WORK / "02_net.checkpoint"
    model, config = build_model("cnn", 0), TrainConfig(epochs=2)
    trained = fit(model, sample.train, sample.validation, config, listeners=[Checkpoint(place)])
    assert read_curve(tmp_path / "a", "02_net") == list(trained.history["val_acc"])
    assert read_curve(tmp_path / "b", "02_net") == []
    # Its network is kept, and its page is being made.
    place.unlink()
    save_trained(place.with_name("02_net"), "cnn", trained, {})
    assert read_curve(tmp_path / "a", "02_net") == list(trained.history["val_acc"])


@pytest.mark.parametrize(
    ("cores", "gigabytes", "threads", "workers"),
    [(8, 64, 1, 8), (8, 64, 3, 2), (8, 8, 1, 4), (2, 1, 4, 1)],
)
def test_workers_by_cores_and_memory(monkeypatch, cores, gigabytes, threads, workers):
    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", gigabytes * 10**9)
    assert cluster.local_workers(threads) == workers

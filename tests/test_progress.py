"""Progress bars: one that comes and goes in a terminal, sparse lines in a log."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from fmnist_lib import progress
from fmnist_lib.progress import progress_bar

TRAINING = """
import time
from fmnist_lib.progress import progress_bar
with progress_bar(40, "training") as bar:
    for _ in range(40):
        bar.update()
        time.sleep(0.02)
print("done")
"""


@pytest.fixture
def clock(monkeypatch):
    """Set the time by hand: the one item of the list is the current second."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_in_a_terminal_the_bar_comes_and_goes():
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    # Without the encoding, tqdm would draw as the locale of this machine allows.
    settings = {"stdout": theirs, "stderr": theirs, "env": os.environ | {"PYTHONUTF8": "1"}}
    child = subprocess.Popen([sys.executable, "-c", TRAINING], **settings)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal ends when its last writer has gone
        while part := os.read(ours, 1000):
            shown += part
    os.close(ours)
    assert child.wait() == 0
    *bars, gone, last = shown.decode().replace("\r\n", "\n").split("\r")
    assert any("training:" in bar and "█" in bar for bar in bars)
    assert gone.strip() == ""
    assert last == "done\n"


def test_the_log_of_a_short_job_stays_empty():
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_the_log_of_a_long_job_has_a_line_now_and_then(clock, capsys):
    with progress_bar(1000, "training", mininterval=0, miniters=1) as bar:
        for step in range(1000):
            clock[0] = (step + 1) / 10  # 100 seconds in all
            bar.set_description(f"epoch {step // 100 + 1}/10", refresh=False)
            bar.update()
            if step % 100 == 99:
                bar.set_postfix_str("accuracy 0.9")  # which tqdm writes at once
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "epoch 3/10:  30%| 300 of 1000",
        "epoch 6/10:  60%| 600 of 1000",
        "epoch 9/10:  90%| 900 of 1000",
    ]
    assert all(line.endswith(", accuracy 0.9") for line in lines)


@pytest.mark.parametrize("silent", [{"show": False}, {"log": False}])
def test_a_bar_that_is_switched_off_is_silent_in_a_log(silent, clock, capsys):
    with progress_bar(3, "sweep", mininterval=0, **silent) as bar:
        for _ in range(3):
            clock[0] += 100
            bar.update()
        bar.write("a line of its own")
    assert capsys.readouterr() == ("a line of its own\n", "")

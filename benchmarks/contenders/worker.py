"""Run one contender in a process of its own, epoch by epoch.

    python benchmarks/contenders/worker.py classic --workers 2

The contender trains as its users would, in one call. After each epoch it calls back: the worker
writes one line of JSON to standard output, and waits for a line on standard input before training
continues. So the epochs of several contenders can take turns on one machine.
"""

import argparse
import importlib
import json
import os
import sys
import time

try:
    import resource
except ModuleNotFoundError:  # on Windows, where peak memory is not measured
    resource = None

MIB = 1024 if sys.platform == "linux" else 1024**2  # units of ru_maxrss per MiB


class Reporter:
    """Report an epoch when it ends, and wait for the signal to start the next one."""

    def __init__(self, stream):
        self.stream, self.start = stream, time.perf_counter()

    def __call__(self, val_accuracy, **more):
        seconds = time.perf_counter() - self.start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB if resource else 0
        self.send(seconds=seconds, val_accuracy=float(val_accuracy), peak_mib=peak, **more)
        if not sys.stdin.readline():
            os._exit(0)  # without the slow clean-up of the frameworks
        self.start = time.perf_counter()

    def send(self, **message):
        print(json.dumps(message), file=self.stream, flush=True)


def main():
    """Import the contender and run its training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", help="a module in this folder")
    parser.add_argument("--network", default="cnn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipe", default="fast", help="a method of TrainConfig")
    parser.add_argument("--times", type=int, default=1, help="how often to repeat the images")
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--flush-denormals", action="store_true")
    parser.add_argument("--backend", default="torch", help="of Keras")
    options = parser.parse_args()
    # What the frameworks print goes to standard error; this stream is for the driver alone.
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    report = Reporter(stream)
    try:
        module = importlib.import_module(options.contender)
    except ImportError as error:
        report.send(missing=str(error).splitlines()[0])
        return
    report.send(versions=module.versions(options))
    if sys.stdin.readline():
        report.start = time.perf_counter()
        module.train(options, report)


if __name__ == "__main__":
    main()

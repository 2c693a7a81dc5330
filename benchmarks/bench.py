"""Measure training against what people use today: one run, one table, one figure, one JSON.

    make bench                                       # in an environment with all contenders
    python benchmarks/bench.py --device cuda         # on a GPU: this project and the classic loop

Each contender trains the same network on the same images, in batches of 64 in file order, with
Adam in fp32 unless its name says otherwise. Each runs in a process of its own, and they take turns,
epoch by epoch. An epoch is training on 48,000 images and validating on 12,000. Then the recipes of
`TrainConfig` run against the classic loop, with five seeds each.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
from report import BASELINE
from torch.utils.flop_counter import FlopCounterMode

from fmnist_lib.models import build_model
from fmnist_lib.progress import progress_bar
from fmnist_lib.timing import product_rate
from fmnist_lib.trained import machine_record

HERE = Path(__file__).parent
WORKER = HERE / "contenders" / "worker.py"

OURS = {
    "fit": ["ours"],
    "fit, bf16": ["ours", "--precision", "bf16"],
    "fit, compiled": ["ours", "--compile"],
    "fit, compiled, bf16": ["ours", "--compile", "--precision", "bf16"],
    "fit, compiled, bf16, no denormals": [
        *("ours", "--compile", "--precision", "bf16", "--flush-denormals"),
    ],
}
CLASSIC = {
    BASELINE: ["classic", "--workers", "2"],
    "classic loop, DataLoader": ["classic"],
}
PEERS = {
    "Lightning": ["lightning_trainer"],
    "skorch": ["skorch_net"],
    "fastai": ["fastai_learner"],
    "Keras on PyTorch": ["keras_model", "--backend", "torch"],
    "Keras on JAX": ["keras_model", "--backend", "jax"],
    "Keras on TensorFlow": ["keras_model", "--backend", "tensorflow"],
}
# Test accuracies of the script that the protocol comes from, after 25 epochs.
TARGETS = {"cnn": 0.9056, "dilated_cnn": 0.8866}
RECIPES = ("fast", "accurate")
EPOCHS = 25


class Worker:
    """A contender in a process of its own; see contenders/worker.py."""

    def __init__(self, arguments, cache=None):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  close() closes it
        environment = os.environ | ({"TORCHINDUCTOR_CACHE_DIR": cache} if cache else {})
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        command = [sys.executable, str(WORKER), *arguments]
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        first = self._read()
        self.missing, self.versions = first.get("missing"), first.get("versions")

    def epoch(self):
        """Train one more epoch, and return its report."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._read()

    def epoch_or_fail(self):
        """Train one more epoch, as `epoch` does, but fail if the contender fails."""
        reported = self.epoch()
        if "missing" in reported:
            raise RuntimeError(f"{' '.join(self.process.args)}: {reported['missing']}")
        return reported

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or ["no message"])[-1]
            return {"missing": f"it stopped: {last}"}
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.log.close()


def measure_throughput(contenders, repeats, device):
    """Time epochs of all contenders in turn; keep the first, which includes start-up, apart."""
    rows, workers = {}, {}
    with (
        tempfile.TemporaryDirectory() as cache,
        progress_bar(len(contenders) * (repeats + 1), "throughput", unit="epoch") as bar,
    ):
        for name, arguments in contenders.items():
            bar.set_postfix_str(name)
            worker = Worker([*arguments, "--device", device], f"{cache}/{len(rows)}")
            first = {"missing": worker.missing} if worker.missing else worker.epoch()
            if "missing" in first:
                rows[name] = first
                worker.close()
            else:
                rows[name] = {
                    "versions": worker.versions,
                    "first_epoch_s": first["seconds"],
                    "seconds": [],
                }
                workers[name] = worker
            bar.update()
        for _ in range(repeats):
            for name, worker in list(workers.items()):
                bar.set_postfix_str(name)
                reported = worker.epoch()
                if "missing" in reported:
                    rows[name] = reported
                    workers.pop(name).close()
                    continue
                rows[name]["seconds"].append(reported["seconds"])
                rows[name] |= {key: reported[key] for key in ("val_accuracy", "peak_mib")}
                bar.update()
        for worker in workers.values():
            worker.close()
    return rows


def measure_time_to_accuracy(seeds, device):
    """Run the classic loop for 25 epochs, and each recipe with several seeds."""
    results = {}
    with progress_bar(
        len(TARGETS) * (EPOCHS + len(RECIPES) * seeds), "time to accuracy", unit="part"
    ) as bar:
        for network, target in TARGETS.items():
            common = ["--network", network, "--device", device]
            bar.set_postfix_str(f"classic loop, {network}")
            worker, curve, total = Worker([*CLASSIC[BASELINE], *common]), [], 0.0
            for _ in range(EPOCHS):
                reported = worker.epoch_or_fail()
                total += reported["seconds"]
                curve.append((total, reported["val_accuracy"]))
                bar.update()
            worker.close()
            results[network] = {"target": target, "classic": {"seconds": total, "curve": curve}}
            for recipe in RECIPES:
                bar.set_postfix_str(f"{recipe}, {network}")
                worker, runs = Worker(["recipe", "--recipe", recipe, *common]), []
                for _ in range(seeds):
                    reported = worker.epoch_or_fail()
                    names = ("fit_seconds", "val_accuracy", "test", "curve")
                    runs.append({name: reported[name] for name in names})
                    bar.update()
                worker.close()
                results[network][recipe] = runs
    return results


def measure_growth(device):
    """Measure the cost per image in a first epoch on 1, 4 and 16 times the data."""
    result = {}
    for times in progress_steps((1, 4, 16), "growth"):
        worker = Worker(["ours", "--times", str(times), "--device", device])
        reported = worker.epoch_or_fail()
        worker.close()
        result[times] = {
            "microseconds_an_image": reported["seconds"] / (60_000 * times) * 1e6,
            "peak_mib": reported["peak_mib"],
        }
    return result


def measure_import(repeats=5):
    """Measure what importing the library adds to importing PyTorch, in seconds."""
    lines = {"torch": "import torch", "fmnist_lib": "import torch; import fmnist_lib.training"}
    seconds = {name: [] for name in lines}
    for _ in progress_steps(range(repeats), "import"):
        for name, line in lines.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", line], check=True)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_floor(device):
    """Count the operations of an epoch, and measure the speed of matrix products."""
    flops = {}
    for network in TARGETS:
        model = build_model(network, seed=0)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(64, 1, 28, 28)).sum().backward()
        training = counter.get_total_flops() / 64 * 48_000
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(64, 1, 28, 28))
        flops[network] = training + counter.get_total_flops() / 64 * 12_000
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {name: product_rate(dtype, device, repeats=20) for name, dtype in kinds.items()}
    return {"flop_an_epoch": flops, "flop_a_second": rates}


def progress_steps(items, name):
    """Iterate over a few items with a progress bar."""
    with progress_bar(len(items), name, unit="part") as bar:
        for item in items:
            yield item
            bar.update()


def main():
    """Measure everything, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each contender")
    parser.add_argument("--seeds", type=int, default=5, help="of each recipe")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the results")
    parser.add_argument("--parts", nargs="+", help="measure these again, and keep the others")
    options = parser.parse_args()
    device = options.device
    contenders = OURS | CLASSIC | (PEERS if device == "cpu" else {})
    parts = {
        "floor": lambda: measure_floor(device),
        "import_s": measure_import,
        "throughput": lambda: measure_throughput(contenders, options.repeats, device),
        "growth": lambda: measure_growth(device),
        "time_to_accuracy": lambda: measure_time_to_accuracy(options.seeds, device),
    }
    chosen = options.parts or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(parts)}")
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "bench.json"
    results = json.loads(file.read_text(encoding="utf-8")) if options.parts else {}
    results |= {
        "date": date.today().isoformat(),
        "device": device,
        "machine": machine_record() | {"processor": processor()},
    }
    for name in chosen:
        results[name] = parts[name]()
        # After each part, so that a late failure does not lose the earlier ones.
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, str(HERE / "report.py"), str(file)], check=True)


def processor():
    """Return the processor's full model name."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()

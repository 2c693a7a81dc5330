"""Turn bench.json into a table, a figure, and the parts of README and site that show them.

python benchmarks/report.py [FILE]        # default: bench.json in this folder
"""

import csv
import io
import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
START, END = "<!-- made by make bench -->", "<!-- end of what make bench made -->"
BASELINE = "classic loop, DataLoader with 2 workers"
NETWORKS = {"cnn": "convolutional", "dilated_cnn": "dilated"}
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8c8c8c"


def throughput_table(results):
    """List the contenders, fastest first; those that could not run come last."""
    head = (
        "contender",
        "seconds per epoch (lowest)",
        "median",
        "highest",
        "images per second",
        "times the classic loop",
        "first epoch, with start (s)",
        "peak memory (MiB)",
    )
    measured = {name: row for name, row in results["throughput"].items() if "seconds" in row}
    lowest = {name: min(row["seconds"]) for name, row in measured.items()}
    rows = []
    for name in sorted(lowest, key=lowest.get):
        seconds = measured[name]["seconds"]
        rows.append(
            (
                label(name, measured[name]),
                f"{lowest[name]:.2f}",
                f"{statistics.median(seconds):.2f}",
                f"{max(seconds):.2f}",
                f"{60_000 / lowest[name]:,.0f}",
                f"{lowest[BASELINE] / lowest[name]:.2f}",
                f"{measured[name]['first_epoch_s']:.1f}",
                f"{measured[name]['peak_mib']:,.0f}",
            )
        )
    for name, row in results["throughput"].items():
        if "seconds" not in row:
            rows.append((name, f"not measured: {row['missing']}", *[""] * 6))
    return [head, *rows]


def label(name, row):
    """Add the version of each package to its name."""
    versions = row["versions"]
    return " ".join(f"{word} {versions.get(word.lower(), '')}".strip() for word in name.split())


def accuracy_table(results):
    """List the accuracies and times of the recipes and the classic loop."""
    head = ("network", "training", "seconds", "share of the loop", "test accuracy", "seeds")
    rows = []
    for network, result in results["time_to_accuracy"].items():
        loop = result["classic"]["seconds"]
        target = f"{result['target']:.4f} (the script's)"
        rows.append((NETWORKS[network], "classic loop, 25 epochs", f"{loop:.0f}", "1", target, ""))
        for recipe in ("fast", "accurate"):
            mean = statistics.mean(run["fit_seconds"] for run in result[recipe])
            tests = [run["test"] for run in result[recipe]]
            rows.append(
                (
                    NETWORKS[network],
                    f"TrainConfig.{recipe}()",
                    f"{mean:.1f}",
                    f"1/{loop / mean:.1f}",
                    f"{statistics.mean(tests):.4f} ({min(tests):.4f} to {max(tests):.4f})",
                    str(len(tests)),
                )
            )
    return [head, *rows]


def other_table(results):
    """List the other measurements."""
    floor, growth, imports = results["floor"], results["growth"], results["import_s"]
    rows = [("what", "measured")]
    for precision, rate in floor["flop_a_second"].items():
        seconds = floor["flop_an_epoch"]["cnn"] / rate
        gflops = rate / 1e9
        rows.append((f"product of two 2048² matrices, {precision}", f"{gflops:,.0f} GFLOP/s"))
        rows.append(
            (f"an epoch of the convolutional network at that rate, {precision}", f"{seconds:.2f} s")
        )
        names = [name for name in results["throughput"] if name.startswith("fit")]
        names = [name for name in names if ("bf16" in name) == (precision == "bf16")]
        for name in names:
            lowest = min(results["throughput"][name]["seconds"])
            rows.append((f"{name}, as a multiple of that floor", f"{lowest / seconds:.1f}"))
    for times, row in growth.items():
        cost = f"{row['microseconds_an_image']:.0f} µs, {row['peak_mib']:,.0f} MiB at most"
        rows.append((f"an image in fit's first epoch of {60_000 * int(times):,} images", cost))
    extra = imports["fmnist_lib"] - imports["torch"]
    rows.append(
        (
            "import fmnist_lib.training over import torch",
            f"{extra * 1000:+.0f} ms of {imports['torch']:.1f} s",
        )
    )
    return rows


def draw(results, file):
    """Draw the throughput as bars, and validation accuracy over time."""
    figure, (bars, curves) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    measured = {name: row for name, row in results["throughput"].items() if "seconds" in row}
    rates = {name: [60_000 / s for s in row["seconds"]] for name, row in measured.items()}
    best = {name: max(values) for name, values in rates.items()}
    names = sorted(best, key=best.get)
    # From the lowest rate to the highest, which is the end of the bar.
    spread = [[best[name] - min(rates[name]) for name in names], [0] * len(names)]
    colours = [BLUE if name.startswith("fit") else GREY for name in names]
    bars.barh(names, [best[name] for name in names], xerr=spread, color=colours, height=0.7)
    for position, name in enumerate(names):
        ratio = f" {best[name] / best[BASELINE]:.1f}×"
        bars.text(best[name], position, ratio, va="center", fontsize=9)
    bars.set_xlim(0, 1.15 * max(max(values) for values in rates.values()))
    bars.set_xlabel("images per second, training and validation")
    bars.set_title("Same network, same batches", loc="left", fontsize=11)
    result = results["time_to_accuracy"]["cnn"]
    for name, curve, colour, style in (
        ("classic loop", result["classic"]["curve"], GREY, "-"),
        ("accurate", result["accurate"][0]["curve"], ORANGE, "--"),
        ("fast", result["fast"][0]["curve"], BLUE, "-"),
    ):
        seconds, accuracies = zip(*curve, strict=True)
        curves.plot(seconds, accuracies, style, color=colour, marker=".", label=name)
    curves.set_xscale("log")
    curves.set_xlabel("seconds of training (logarithmic)")
    curves.set_ylabel("validation accuracy")
    curves.set_title("The convolutional network over time, seed 0", loc="left", fontsize=11)
    curves.legend(frameon=False, loc="lower right")
    for axes in (bars, curves):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def markdown(table):
    """Write a table for a Markdown page."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def machine_line(results):
    """Describe the machine and the versions."""
    machine = results["machine"]
    cpu = f"{machine['threads']} threads of an {machine['processor']}"
    where = cpu if results["device"] == "cpu" else machine["gpu"]
    versions = f"{machine['system']}, PyTorch {machine['packages']['torch']}"
    return f"Measured on {results['date']}: {where}, {machine['cpu_capability']}, {versions}."


def readme_block(results):
    """Make the part of the README between the two marks: three figures of speed."""
    seconds = {row[0]: f"{row[1]} s" for row in throughput_table(results)}
    loop, fast = (f"{row[2]} s, {row[4].split()[0]}" for row in accuracy_table(results)[1:3])
    table = [
        ("the convolutional network", "classic loop of the tutorials", "this library"),
        ("one epoch, validation included", seconds[BASELINE], seconds["fit"]),
        ("the same, compiled, in bfloat16", "", seconds["fit, compiled, bf16"]),
        ("25 epochs, or `TrainConfig.fast()`: time, test accuracy", loop, fast),
    ]
    return "\n\n".join([START, markdown(table), machine_line(results), END])


def tables(results):
    """Make every table, under the name of its file."""
    return {
        "bench": throughput_table(results),
        "bench_accuracy": accuracy_table(results),
        "bench_other": other_table(results),
    }


def as_csv(table):
    """Write a table as comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def main():
    """Write every derived file."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "bench.json"
    results, folder = json.loads(source.read_text(encoding="utf-8")), source.parent
    for name, table in tables(results).items():
        (folder / f"{name}.csv").write_text(as_csv(table), encoding="utf-8")
        print(f"\n{markdown(table)}")
    print(f"\n{machine_line(results)}")
    draw(results, folder / "bench.png")
    if source.resolve() == (HERE / "bench.json").resolve():
        before, _, rest = README.read_text(encoding="utf-8").partition(START)
        _, _, after = rest.partition(END)
        README.write_text(before + readme_block(results) + after, encoding="utf-8")


if __name__ == "__main__":
    main()

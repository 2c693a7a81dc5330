"""Model cards: what the record of a run says, written for people.

The form is that of Mitchell et al., "Model Cards for Model Reporting", arXiv:1810.03993. What a
run does not know is said to be missing, and no measured number comes from anywhere else.
"""

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from fmnist_lib.data import N_TRAIN
from fmnist_lib.inspection import count_parameters, layer_table
from fmnist_lib.trained import load_trained
from fmnist_lib.training import TrainConfig

TITLES = {
    "cnn": "the convolutional network",
    "dilated_cnn": "the dilated network",
    "padded_dilated_cnn": "the padded dilated network",
}

# What a setting does, told where it is not the default of TrainConfig, which is plain Adam.
SETTINGS = {
    "shuffle": "batches in file order, the same in each epoch",
    "schedule": "the learning rate rises to lr in the first three tenths of all steps, and falls "
    "to almost nothing",
    "weight_decay": "decoupled from the gradient (AdamW)",
    "label_smoothing": "share of the target that is spread over all classes",
    "flip": "each training image is mirrored with probability one half",
    "shift": "each training image is moved by up to so many pixels",
    "precision": "products, and what passes between layers, in 16 bits; the rest in 32",
    "compile": "torch.compile made one program of the network",
}

# (metric in the record, its name in the card, what to know about it)
METRICS = (
    ("test_accuracy", "accuracy, test images", "share of right answers"),
    ("test_log_loss", "log loss, test images", "0 is best; 2.303 is knowing nothing"),
    (
        "test_calibration_error",
        "calibration error, test images",
        "mean gap between confidence and accuracy; 0 is best",
    ),
    (
        "val_accuracy",
        "accuracy, validation images",
        "they chose the epoch, so this is a little too good",
    ),
)

CARD = """\
# Model card: {title}

<!-- made by fmnist card -->

After Mitchell et al., [Model Cards for Model Reporting](https://arxiv.org/abs/1810.03993). Filled
in by `fmnist card` from the record of one training run.

## Model details

The network `{network}` of `fmnist_lib` {version}, with {parameters:,} parameters. It takes images
(N, 1, 28, 28) of numbers from 0 to 1, the article bright on black, and gives ten logits for each
image, one a class. Licence: MIT.

{layers}

## Training

{data}

Trained with {optimizer} on the cross-entropy. A note stands where a setting is not the default.

{settings}

{history}

## Machine

{machine}

## Metrics

{metrics}

## Intended use

Teaching and comparing: a small network whose training fits into minutes, whose weaknesses can be
looked at, and which others can train again from this card.

## Out of scope

Photographs. The network has seen one shop's cut-out thumbnails, grey and inverted, and gives one of
its ten classes to whatever it is shown, a face or a chair included. Nothing should be decided about
people, goods or money by its answers.

## Limits

- An interval around a test accuracy covers the luck of the test images and nothing else: not the
  luck of the seed, and not other shops, other years or other cameras.
- This is one training with one seed. It says little about the architecture.
- Some labels of the data set are doubtful, and some of its images nearly repeat each other across
  its parts; both are in the numbers (see the project's `book/dataset_card.md`).
- Classes are not equally hard: an accuracy over all of them hides the worst one.

## How to load it

From the folder in which the card was made, where the run is kept. The images are those of the
sample that ships with the package.

```python
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist
from fmnist_lib.evaluation import predict
from fmnist_lib.trained import load_trained

trained, record = load_trained({folder})
images = load_fashion_mnist(sample=True).validation.images
probabilities = predict(trained.model, images)
print(CLASS_NAMES[probabilities[0].argmax()])
```

## SHA-256

{hashes}
"""

UNTESTED = (
    "**Not tested.** The run holds no accuracy on the test images, so this card says nothing about "
    "new images."
)
SAMPLE = (
    "**Trained on the sample only**: 800 images, and 200 to validate, of the 1,500 that ship with "
    "the package. That is for trying things out; its numbers do not measure the network."
)
FULL = (
    f"[Fashion-MNIST](https://arxiv.org/abs/1708.07747): the first {N_TRAIN:,} of the 60,000 "
    f"official training images; the last {60_000 - N_TRAIN:,} validate. No preprocessing but the "
    "scaling to numbers from 0 to 1."
)


def model_card(folder):
    """Write the model card of a run.

    Parameters
    ----------
    folder : path
        Of a run, as `save_trained` writes it.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    TrainedModelError
        If the folder holds no finished run, or files that do not belong together.
    """
    trained, record = load_trained(folder)
    network, machine = record["network"], record["machine"]
    layers = layer_table(trained.model)
    return CARD.format(
        title=TITLES.get(network, network),
        network=network,
        version=machine["packages"]["fmnist-lib"],
        parameters=count_parameters(trained.model),
        layers=_table(layers.columns, [(*row[:2], f"{row[2]:,}") for row in layers.to_numpy()]),
        optimizer="AdamW" if trained.config.weight_decay else "Adam",
        data=SAMPLE if record["data"] == "sample" else FULL,
        settings=_settings(trained.config),
        history=_history(trained),
        machine=_machine(record["device"], machine),
        metrics=_metrics(record["metrics"], record["data"] == "sample"),
        folder=json.dumps(Path(folder).as_posix(), ensure_ascii=False),
        hashes=_hashes(record),
    )


def _settings(config):
    default = asdict(TrainConfig())
    # What was trained on stands in the table of the machine.
    rows = [
        (name, value, SETTINGS.get(name, "") if value != default[name] else "")
        for name, value in asdict(config).items()
        if name != "device"
    ]
    return _table(("setting", "value", "note"), rows)


def _history(trained):
    history, best = trained.history, trained.best_epoch
    row, last = history.iloc[best - 1], history.iloc[-1]
    return (
        f"Epoch {best} of {len(history)} validated best, and its weights are the ones kept: "
        f"validation accuracy {row['val_acc']:.4f}, loss {row['val_loss']:.4f}. The last epoch had "
        f"{last['val_acc']:.4f} and {last['val_loss']:.4f}; on the training images, while the "
        f"weights moved, {last['train_acc']:.4f} and {last['train_loss']:.4f}."
    )


def _machine(device, machine):
    rows = [("device", device)]
    rows += [(name.replace("_", " "), machine[name]) for name in machine if name != "packages"]
    rows += machine["packages"].items()
    return _table(("what", "value"), [row for row in rows if row[1] is not None])


def _metrics(metrics, sample):
    known = {name: value for name, value in metrics.items() if _is_number(value)}
    rows = [
        (title, f"{known[name]:.4f}", _interval(known, name), note)
        for name, title, note in METRICS
        if name in known
    ]
    recall = metrics.get("test_recall", {}).items()
    recall = [(name, f"{share:.3f}") for name, share in recall if _is_number(share)]
    parts = [_tested(known, sample)]
    if rows:
        parts.append(_table(("metric", "value", "95 % interval (Wilson)", "note"), rows))
    if recall:
        parts.append("Recall: of the test images of a class, the share that was called so.")
        parts.append(_table(("class", "recall"), recall))
    missing = [title for name, title, _ in METRICS if name not in known]
    missing += [] if _interval(known, "test_accuracy") else ["interval of the accuracy"]
    missing += [] if recall else ["recall of the classes"]
    if missing:
        parts.append(f"Not in the record: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def _tested(known, sample):
    if "test_accuracy" not in known:
        return UNTESTED
    images = f"{known['test_images']:,} " if "test_images" in known else ""
    origin = "of the sample" if sample else "of Fashion-MNIST"
    return f"On the {images}test images {origin}, which played no part in the training."


def _interval(known, name):
    bounds = [known.get(f"{name}_{end}") for end in ("low", "high")]
    return "" if None in bounds else "{:.4f} to {:.4f}".format(*bounds)


def _hashes(record):
    files = dict(record["sha256"])
    if record["data"] != "sample":
        files |= record["data"]
    return _table(("file", "SHA-256"), [(name, f"`{digest}`") for name, digest in files.items()])


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _is_number(value):
    return type(value) in (int, float) and isfinite(value)

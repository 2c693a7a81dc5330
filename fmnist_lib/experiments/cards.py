"""Model cards: what the record of a trained network says, written for people.

The form is that of Mitchell et al., "Model Cards for Model Reporting",
https://arxiv.org/abs/1810.03993. Whatever the record does not hold is reported as missing, and no
measured number comes from anywhere else. The card's text is in ``model_card.md.jinja``.
"""

import json
import re
from dataclasses import asdict
from math import isfinite, log
from pathlib import Path

from fmnist_lib.common import one_line
from fmnist_lib.data import OFFICIAL, SAMPLE
from fmnist_lib.download import SHA256
from fmnist_lib.inspection import count_parameters, layer_table
from fmnist_lib.trained import TrainedModelError, load_trained
from fmnist_lib.training import TrainConfig

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
TITLES = {
    "cnn": "the convolutional network",
    "dilated_cnn": "the dilated network",
    "padded_dilated_cnn": "the padded dilated network",
}

# Notes on settings, shown where they differ from the defaults of TrainConfig, which are plain Adam.
SETTINGS = {
    "shuffle": "batches in file order, the same in each epoch",
    "schedule": "the learning rate rises to lr in the first three tenths of all steps, and falls "
    "to almost nothing",
    "weight_decay": "decoupled from the gradient (AdamW)",
    "label_smoothing": "share of the target that is spread over all classes",
    "flip": "each training image is mirrored with probability one half",
    "shift": "each training image is moved by up to this many pixels",
    "precision": "products, and what passes between layers, in 16 bits; the rest in 32",
    "compile": "torch.compile made one program of the network",
}

# (metric in the record, its name on the card, a note)
METRICS = (
    ("test_accuracy", "accuracy, test images", "share of right answers"),
    ("test_log_loss", "log loss, test images", "0 is best; {:.3f} is knowing nothing"),
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


def model_card(folder):
    """Write the model card of a trained network, as Markdown, from its folder.

    Raises `TrainedModelError` if the folder holds no trained network, or the record lacks something
    that the card needs.
    """
    import jinja2

    trained, record = load_trained(folder)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    environment.filters["inert"] = inert
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    try:
        return template.render(_facts(folder, trained, record))
    except Exception as error:  # of many kinds: the record may hold anything
        raise TrainedModelError(
            f"the record in {folder} does not hold what a card needs ({one_line(error)}); name the "
            "folder of another network, or train this one again"
        ) from None


def inert(value):
    """Escape text, so that Markdown shows it as it is, on one line."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    # Between letters, an underscore has no meaning.
    special = r"[\\`*<>\[\]|&$~]|(?<![^\W_])_|_(?![^\W_])"
    return re.sub(special, r"\\\g<0>", " ".join(text.split()))


def _facts(folder, trained, record):
    """Collect what the card shows, by the names in its template."""
    machine, data = record["machine"], record["data"]
    facts = {"device": record["device"]} | machine | machine["packages"]
    trained_on = _origin(data, "train", "validation")
    splits = {f"{name} split": split["sha256"] for name, split in data.items()}
    hashes = record["sha256"] | (SHA256 if trained_on == "official" else splits)
    default = asdict(TrainConfig())
    n_classes = len(record["logits"])
    return dict(
        record=record,
        config=trained.config,
        trained_on=trained_on,
        tested_on=_origin(data, "test"),
        classes="ten" if n_classes == 10 else n_classes,
        title=TITLES.get(record["network"], record["network"]),
        parameters=count_parameters(trained.model),
        layers=[(*row[:2], f"{row[2]:,}") for row in layer_table(trained.model).to_numpy()],
        settings=[
            (name, value, SETTINGS.get(name, "") if value != default[name] else "")
            for name, value in asdict(trained.config).items()
            if name != "device"  # it is in the table of the machine
        ],
        best_epoch=trained.best_epoch,
        epochs=len(trained.history),
        best=trained.history.iloc[trained.best_epoch - 1],
        last=trained.history.iloc[-1],
        machine=[
            (name.replace("_", " "), fact)
            for name, fact in facts.items()
            if name != "packages" and fact is not None
        ],
        folder=_quote(Path(folder).as_posix()),
        hashes=hashes,
        **_metrics(record["metrics"], n_classes),
    )


def _quote(text):
    """Write text as a Python literal of characters that can be printed and encoded."""
    literal = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in literal)


def _origin(data, *names):
    """Return whose images these splits hold: ``"official"``, ``"sample"`` or ``"other"``."""
    found = [data.get(name, {}).get("sha256") for name in names]
    known = {"official": OFFICIAL, "sample": SAMPLE}
    return next((o for o, d in known.items() if found == [d[name] for name in names]), "other")


def _metrics(metrics, n_classes):
    known = _finite(metrics)
    recall = _finite(metrics.get("test_recall", {})).items()
    recall = [(name, f"{share:.3f}") for name, share in recall]
    missing = [title for name, title, _ in METRICS if name not in known]
    missing += [] if _interval(known, "test_accuracy") else ["interval of the accuracy"]
    missing += [] if recall else ["recall of the classes"]
    measured = [
        (title, f"{known[name]:.4f}", _interval(known, name), note.format(log(n_classes)))
        for name, title, note in METRICS
        if name in known
    ]
    return {"metrics": known, "measured": measured, "recall": recall, "missing": missing}


def _interval(known, name):
    bounds = [known.get(f"{name}_{end}") for end in ("low", "high")]
    return "" if None in bounds else "{:.4f} to {:.4f}".format(*bounds)


def _finite(metrics):
    """Keep the numbers; the recall of a class without test images is not one."""
    numbers = {name: value for name, value in metrics.items() if type(value) in (int, float)}
    return {name: value for name, value in numbers.items() if isfinite(value)}

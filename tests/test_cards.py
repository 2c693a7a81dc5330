"""Model cards say what the record says, and the dataset card what the data says."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from torch import nn

from fmnist_lib import cli, evaluation
from fmnist_lib.data import CLASS_NAMES, N_TRAIN, OFFICIAL, SAMPLE
from fmnist_lib.download import SHA256
from fmnist_lib.experiments import cards
from fmnist_lib.inspection import count_parameters, layer_table
from fmnist_lib.models import MODELS, build_model
from fmnist_lib.trained import save_trained
from fmnist_lib.training import TrainConfig, fit

ROOT = Path(__file__).parent.parent
SECTIONS = [
    *("Model details", "Training", "Machine", "Metrics", "Intended use", "Out of scope"),
    *("Limits", "How to load it", "SHA-256"),
]
METRICS = {
    "val_accuracy": 0.9135,
    "test_images": 10_000,
    "test_accuracy": 0.9056,
    "test_accuracy_low": 0.8997,
    "test_accuracy_high": 0.9112,
    "test_log_loss": 0.2713,
    "test_calibration_error": 0.0161,
    "test_recall": {name: 0.701 + k / 100 for k, name in enumerate(CLASS_NAMES)},
}
COMMITTED = [("cnn", "02_cnn"), ("dilated_cnn", "03_dilated_cnn")]


@pytest.fixture(scope="module")
def trained(sample):
    config = TrainConfig(epochs=2, seed=7, shift=1, device="cpu")
    return fit(build_model("dilated_cnn", seed=7), sample.train, sample.validation, config)


@pytest.fixture
def make(tmp_path, trained):
    """Make a card of the same network: (metrics, origin of the data) -> text, record."""

    def make(metrics, data=OFFICIAL, test=None):
        splits = {name: {"images": 800, "sha256": data[name]} for name in ("train", "validation")}
        test = test or SimpleNamespace(describe=lambda: {"images": 9, "sha256": data["test"]})
        own = replace(trained, data=splits)
        folder = save_trained(tmp_path / "run", "dilated_cnn", own, metrics, test=test)
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        card = cards.model_card(folder)
        assert_well_formed(card)
        return card, record

    return make


def section(card, title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", card, re.M | re.S).group(1)


def rows(text):
    """Read the tables of a section: {first cell: the others}."""
    lines = [line[1:-1].split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def assert_well_formed(card):
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert not re.search(r"[{}]|\b(None|nan|NaN|inf|TODO)\b", card)
    assert all(section(card, title).strip() for title in SECTIONS)
    for table in re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_every_network_has_a_title_and_every_note_a_setting():
    assert set(cards.TITLES) == set(MODELS)
    assert set(cards.SETTINGS) <= set(asdict(TrainConfig()))


def test_the_card_says_what_the_record_says(make, trained):
    card, record = make(METRICS)
    assert card.startswith("# Model card: the dilated network\n")
    details = section(card, "Model details")
    packages = record["machine"]["packages"]
    for fact in ("`dilated_cnn`", packages["fmnist-lib"], f"{count_parameters(trained.model):,}"):
        assert fact in details
    for row in layer_table(trained.model).itertuples():
        assert f"| {row.layer} | {row.output} | {row.parameters:,} |" in details

    training = section(card, "Training")
    settings = rows(training)
    for name, value in record["config"].items():
        if name != "device":
            assert settings[name][0] == str(value)
    assert settings["shift"][1] == cards.SETTINGS["shift"]
    assert settings["flip"][1] == ""  # the default needs no note
    best, last = trained.history.iloc[trained.best_epoch - 1], trained.history.iloc[-1]
    assert f"Epoch {trained.best_epoch} of 2 validated best" in training
    for row, column in ((best, "val_acc"), (best, "val_loss"), (last, "train_loss")):
        assert f"{row[column]:.4f}" in training

    machine = rows(section(card, "Machine"))
    for name, fact in packages.items() | {"device": "cpu"}.items():
        assert machine[name] == [fact]
    assert machine["threads"] == [str(record["machine"]["threads"])]
    hashes = rows(section(card, "SHA-256"))
    for name, digest in (record["sha256"] | SHA256).items():
        assert hashes[name] == [f"`{digest}`"]

    metrics = section(card, "Metrics")
    listed = rows(metrics)
    assert "10,000 test images of Fashion-MNIST" in metrics
    assert listed["accuracy, test images"][:2] == ["0.9056", "0.8997 to 0.9112"]
    assert listed["log loss, test images"][:2] == ["0.2713", ""]
    assert listed["calibration error, test images"][0] == "0.0161"
    assert listed["accuracy, validation images"][0] == "0.9135"
    for name, share in METRICS["test_recall"].items():
        assert listed[name] == [f"{share:.3f}"]
    assert "Not in the record" not in metrics


def test_the_card_leaves_out_nothing_that_a_chapter_records_and_names_the_sample(
    make, trained, sample
):
    probabilities = evaluation.predict(trained.model, sample.test.images)
    metrics = evaluation.summarize_predictions(sample.test.labels.numpy(), probabilities)
    card, record = make({"val_accuracy": 0.5} | metrics, SAMPLE, sample.test)
    assert "Not in the record" not in card
    listed = rows(section(card, "Metrics"))
    assert listed["accuracy, test images"][0] == f"{metrics['test_accuracy']:.4f}"
    assert set(CLASS_NAMES) <= set(listed)
    assert "**Trained on the sample only**" in section(card, "Training")
    assert "48,000" not in card
    assert "500 test images of the sample" in section(card, "Metrics")
    hashes = rows(section(card, "SHA-256"))
    assert set(SHA256).isdisjoint(hashes)
    assert hashes["test split"] == [f"`{record['data']['test']['sha256']}`"]


def test_the_card_of_other_images_says_so(make):
    card, _ = make(METRICS, dict.fromkeys(SAMPLE, "a" * 64))
    training, metrics = section(card, "Training"), section(card, "Metrics")
    assert "**Not trained on the official split of Fashion-MNIST**, but on another" in training
    assert "another set of 800 images" in training
    assert "10,000 test images that were used; they are not the official test set." in metrics
    assert "played no part" not in metrics
    assert rows(section(card, "SHA-256"))["train split"] == [f"`{'a' * 64}`"]
    assert "official training images" not in card
    # The official test images may have been among other training images.
    mixed, _ = make(METRICS, dict.fromkeys(SAMPLE, "a" * 64) | {"test": OFFICIAL["test"]})
    assert "10,000 test images of Fashion-MNIST.\n" in section(mixed, "Metrics")


def test_the_card_counts_the_classes_of_the_network(tmp_path, trained, monkeypatch):
    monkeypatch.setitem(MODELS, "letters", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 26)))
    own = replace(
        trained,
        model=build_model("letters", 0),
        data={name: {"images": 9, "sha256": ""} for name in trained.data},
    )
    card = cards.model_card(save_trained(tmp_path / "net", "letters", own, METRICS))
    assert "gives 26 logits" in section(card, "Model details")
    assert "3.258 is knowing nothing" in section(card, "Metrics")
    assert "one of\nits 26 classes" in section(card, "Out of scope")
    assert "data set are doubtful" not in section(card, "Limits")


@pytest.mark.parametrize(
    ("metrics", "missing"),
    [
        ({"test_accuracy": float("nan")}, "accuracy, test images; log loss, test images; "),
        ({"val_accuracy": 0.9, "test_accuracy": 0.89}, "log loss, test images; "),
        (METRICS | {"test_recall": {"Bag": float("nan")}}, "recall of the classes."),
    ],
)
def test_what_was_not_recorded_is_named(make, metrics, missing):
    card, _ = make(metrics)
    assert f"Not in the record: {missing}" in section(card, "Metrics")
    untested = "accuracy, test images" in missing
    assert ("**Not tested.**" in card) == untested
    assert ("accuracy, test images |" in card) != untested


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MARKDOWN.use(dollarmath_plugin)


@given(st.text("\\`*_~<>[]()!|&$#-+:;=\"'{}/ab1 \n\t\0\u2028\u202e\udc80", max_size=30))
@example("![x](javascript:alert(1))")
@example("__init__ &lt; <b>")
def test_any_text_is_inert_in_markdown(text):
    """As a CommonMark parser sees it."""
    shown = " ".join(re.sub(r"[\0\u2028\u202e\udc80]", " ", text).split())
    inert = cards.inert(text)
    for line, expected in (
        (f"| a |\n| --- |\n| {inert} |", shown),
        (f"# a {inert} b", f"a {shown} b"),
    ):
        *_, cell = (token for token in MARKDOWN.parse(line) if token.type == "inline")
        assert {token.type for token in cell.children} <= {"text"}
        assert "".join(token.content for token in cell.children) == expected


def test_a_record_adds_nothing_but_text_to_a_card(make, tmp_path):
    evil = "a`<img src=x onerror=alert(1)>|\n## heading\n\n<script>"

    def structure(card):
        tokens = [(token, *(token.children or [])) for token in MARKDOWN.parse(card)]
        return [token.type for each in tokens for token in each if token.type != "softbreak"]

    plain, record = make(METRICS, dict.fromkeys(("train", "validation", "test"), "of others"))
    file = tmp_path / "run" / "record.json"
    names = dict(zip([evil, *CLASS_NAMES[1:]], METRICS["test_recall"].values(), strict=True))
    record |= {"device": evil, "machine": record["machine"] | {"system": evil}}
    record["machine"]["packages"]["fmnist-lib"] = evil
    record["data"][evil] = record["data"].pop("test") | {"sha256": evil}
    record["metrics"]["test_recall"] = names
    file.write_text(json.dumps(record))
    card = cards.model_card(tmp_path / "run")
    assert structure(card) == structure(plain)
    assert "<img" in BeautifulSoup(MARKDOWN.render(card), "html.parser").get_text()
    odd = (tmp_path / "run").rename(tmp_path / '```\n\udcff"é')
    card = cards.model_card(odd)
    assert structure(card) == structure(plain)
    assert structure(card.encode().decode()) == structure(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"machine": None},
        {"machine": {"packages": []}},
        {"metrics": None},
        {"metrics": [1]},
        {"metrics": {"test_recall": None}},
        {"data": None},
        {"device": ...},
    ],
)
def test_a_record_that_lacks_something_is_reported_in_one_sentence(make, tmp_path, capsys, change):
    _, record = make(METRICS)
    record = {name: value for name, value in (record | change).items() if value is not ...}
    (tmp_path / "run" / "record.json").write_text(json.dumps(record))
    assert cli.main(["card", str(tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"run (cannot be read|does not hold what a card needs) \(", line)


def test_the_code_of_the_card_runs_and_the_command_prints_or_writes_it(make, tmp_path, capsys):
    card, _ = make(METRICS)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.strip() in CLASS_NAMES
    assert cli.main(["card", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == card
    target = tmp_path / "card.md"
    assert cli.main(["card", str(tmp_path / "run"), "-o", str(target)]) == 0
    assert target.read_bytes() == card.encode()
    assert capsys.readouterr().out == f"written: {target}\n"


@pytest.mark.parametrize(("network", "chapter"), COMMITTED)
def test_a_committed_card_is_that_of_the_published_chapter(make, network, chapter):
    """If not, run 'make notebooks', then 'make cards'."""
    path = ROOT / "book" / f"model_card_{network}.md"
    if not path.is_file():
        pytest.skip("not made yet: run 'make cards'")
    card = path.read_text(encoding="utf-8")
    assert_well_formed(card)
    cells = [cell for line in rows(card).values() for cell in line if "`" not in cell]
    assert [cards.inert(cell) for cell in (*rows(card), *cells)] == [*rows(card), *cells]
    fresh, _ = make(METRICS)
    for title in ("Intended use", "Out of scope", "Limits"):
        assert section(card, title) == section(fresh, title)
    assert section(card, "Training").split("|")[0] == section(fresh, "Training").split("|")[0]
    assert card.startswith(f"# Model card: {cards.TITLES[network]}\n")
    assert f"with {count_parameters(build_model(network)):,} parameters" in card
    assert "Not in the record" not in card
    assert f'load_trained("notebooks/trained/{chapter}")' in card
    assert set(SHA256) <= set(rows(section(card, "SHA-256")))
    accuracy = rows(section(card, "Metrics"))["accuracy, test images"][0]
    notebook = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
    assert any(accuracy in "".join(out.get("text", "")) for out in outputs)


@pytest.fixture(scope="module")
def dataset_card():
    return (ROOT / "book" / "dataset_card.md").read_text(encoding="utf-8")


@pytest.mark.real_data
def test_the_dataset_card_describes_the_images_as_they_are(dataset_card, full_data):
    parts = (full_data.train, full_data.validation, full_data.test)
    counts = torch.stack([part.labels.bincount() for part in parts], dim=1)
    listed = rows(section(dataset_card, "Composition"))
    for k, name in enumerate(CLASS_NAMES):
        assert listed[str(k)] == [name, *(f"{n:,}" for n in counts[k])]
    assert listed[""] == ["all", *(f"{n:,}" for n in counts.sum(dim=0))]
    assert set((counts[:, 0] + counts[:, 1]).tolist()) == {6000}
    assert "The official 60,000 hold 6,000 of each class" in dataset_card
    assert len(full_data.train) == N_TRAIN

    composition = " ".join(section(dataset_card, "Composition").split())
    pixels = full_data.train.images
    mean, spread = pixels.double().mean(), pixels.double().std()
    zero = f"{(pixels == 0).double().mean():.1%}".replace("%", " %")
    assert f"mean {mean:.4f} and standard deviation {spread:.4f}; {zero}" in composition
    assert pixels.shape[1:] == (1, 28, 28)
    assert [(pixels.min() * 255).item(), (pixels.max() * 255).item()] == [0, 255]


@pytest.mark.real_data
def test_no_two_images_are_equal_and_the_labels_are_not_sorted(dataset_card, full_data):
    parts = (full_data.train, full_data.validation, full_data.test)
    images = torch.cat([part.images for part in parts])
    pixels = (images * 255).round().byte().flatten(1).numpy()
    assert len({image.tobytes() for image in pixels}) == 70_000
    assert "No two of the 70,000 images are the same in every pixel" in dataset_card
    for part in parts:
        for batch in np.array_split(part.labels.numpy(), len(part) // 100):
            assert len(set(batch.tolist())) > 5
    assert "sorted by their labels" in dataset_card


def test_both_cards_describe_the_sample_as_it_is(dataset_card, sample):
    parts = (sample.train, sample.validation, sample.test)
    each = [set(part.labels.bincount().tolist()) for part in parts]
    assert each == [{80}, {20}, {50}]
    composition = " ".join(section(dataset_card, "Composition").split())
    assert "holds 1,500 of the images: the first 80, 20 and 50 of each class" in composition
    template = cards.TEMPLATE.read_text(encoding="utf-8")
    assert "800 images, and 200 to validate, of the 1,500" in template
    assert f"the first {N_TRAIN:,} of the 60,000 official" in template


def test_the_dataset_card_types_no_hash_but_shows_those_of_the_library(dataset_card):
    assert not re.search(r"[0-9a-f]{32}", dataset_card)
    start, end = re.findall(r"^:(?:start-at|end-before): '(.*)'$", dataset_card, re.MULTILINE)
    source = (ROOT / "fmnist_lib" / "download.py").read_text(encoding="utf-8")
    shown = source[source.index(start) : source.index(end)]
    for name, digest in SHA256.items():
        assert f'"{name}": "{digest}"' in shown

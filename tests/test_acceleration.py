import json
import os
import platform
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from bits import needs_bf16, needs_compiler, same_bits

from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, acceleration, fit

QUICK = TrainConfig(epochs=2, batch_size=64, lr=1e-3, shuffle=False, device="cpu")  # 12.5 batches


@pytest.fixture
def train(sample):
    def train(**changes):
        config = replace(QUICK, **changes)
        return fit(build_model("cnn", seed=0), sample.train, sample.validation, config)

    return train


@needs_compiler
def test_compiled_is_the_plain_path_and_repeats_to_the_bit(train):
    plain, compiled, again = train(), train(compile=True), train(compile=True)
    assert same_bits(compiled, again)
    assert compiled.history.values == pytest.approx(plain.history.values, abs=1e-4)
    # Had the plain path been taken, the bits would be the same.
    assert not same_bits(plain, compiled)


@pytest.mark.parametrize(("kind", "mode"), [("cpu", "default"), ("cuda", "reduce-overhead")])
def test_a_short_last_batch_is_not_compiled_for(monkeypatch, kind, mode):
    sizes = []

    def fake_compile(forward, **options):
        assert options == {"dynamic": False, "mode": mode}
        return lambda images, labels: sizes.append(len(labels)) or forward(images, labels)

    monkeypatch.setattr(acceleration, "_compiler_problem", lambda kind: None)
    monkeypatch.setattr(torch, "compile", fake_compile)
    step = acceleration.compiled(lambda images, labels: len(labels), 64, torch.device(kind))
    labels = torch.zeros(200)
    assert [step(labels, part) for part in labels.split(64)] == [64, 64, 64, 8]
    assert sizes == [64, 64, 64]


@needs_bf16
@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=needs_compiler)])
def test_bfloat16_is_near_the_plain_path_and_repeats_to_the_bit(train, compile):
    plain, half = train(), train(precision="bf16", compile=compile)
    assert same_bits(half, train(precision="bf16", compile=compile))
    # Eight bits of mantissa: a relative error of 2^-9 in each factor.
    assert half.history["train_loss"].values == pytest.approx(
        plain.history["train_loss"].values, rel=1e-2
    )
    assert not same_bits(half, plain)
    assert all(value.dtype == torch.float32 for value in half.model.state_dict().values())


@pytest.mark.parametrize(
    ("device", "machine", "onednn", "avx512", "supported"),
    [
        ("cpu", "x86_64", True, True, True),
        ("cpu", "AMD64", True, False, False),
        ("cpu", "AMD64", True, True, True),
        ("cpu", "x86_64", True, False, False),
        ("cpu", "x86_64", False, True, False),
        ("cpu", "aarch64", True, False, True),
        ("cpu", "arm64", None, False, False),  # on a Mac, nobody can be asked
        ("mps", "arm64", True, False, False),
        ("cuda", "x86_64", False, False, True),
    ],
)
def test_bfloat16_needs_instructions(monkeypatch, device, machine, onednn, avx512, supported):
    ask = None if onednn is None else lambda: onednn
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", ask)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert acceleration.supports_bf16(torch.device(device)) is supported
    assert acceleration.autocast_for("fp32", torch.device(device)) is nullcontext


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'fp16', expected one of fp32, bf16"):
        acceleration.autocast_for("fp16", torch.device("cpu"))


FALLBACK = """
import json, warnings
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, fit

data, histories = load_fashion_mnist(sample=True), []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for options in ({}, {"compile": True, "precision": "bf16"}):
        config = TrainConfig(epochs=1, device="cpu", **options)
        trained = fit(build_model("cnn", seed=0), data.train, data.validation, config)
        histories.append(trained.history.to_dict("records"))
print(json.dumps([histories, [[str(w.message), w.filename] for w in caught]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="limits instructions of x86"
)
def test_without_compiler_and_instructions_there_is_a_warning_and_the_plain_path(tmp_path):
    poor = {
        "CXX": str(tmp_path / "no-compiler"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }
    done = subprocess.run(
        [sys.executable, "-c", FALLBACK],
        env=os.environ | poor,
        capture_output=True,
        text=True,
        check=True,
    )
    (plain, fallen_back), caught = json.loads(done.stdout.splitlines()[-1])
    assert plain == fallen_back
    precision, compiler = sorted(caught, reverse=True)
    assert precision[0].startswith("precision is 'bf16', but this cpu has no instructions for it")
    assert compiler[0].startswith("compile is True, but there is no working compiler for cpu")
    assert "no-compiler" in compiler[0]
    assert len(compiler[0].splitlines()) == 1
    # Each points at the line that called fit.
    assert {precision[1], compiler[1]} == {"<string>"}
    assert "No CUDA runtime" not in done.stderr

"""Acceleration: the same training step with 16-bit products, or compiled into one program.

bfloat16: Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training",
https://arxiv.org/abs/1905.12322.
torch.compile: Ansel et al., "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode
Transformation and Graph Compilation", ASPLOS 2024, https://doi.org/10.1145/3620665.3640366.
"""

import logging
import platform
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial

import torch

from fmnist_lib.common import one_line, require
from fmnist_lib.training.config import PRECISIONS

TO_CALLER_OF_FIT = 5  # stack level of a warning: here, `loop._start`, `fit`, its lock, its caller


def autocast_for(precision, device):
    """Return a function that makes the context of a forward pass in ``"fp32"`` or ``"bf16"``.

    Where bfloat16 would not be faster, this warns, and the context is that of float32.
    """
    require(precision in PRECISIONS, "precision", precision, f"one of {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return nullcontext
    if supports_bf16(device):
        return partial(torch.autocast, device.type, torch.bfloat16)
    warnings.warn(
        f"precision is 'bf16', but this {device.type} has no instructions for it; training "
        "continues in fp32",
        stacklevel=TO_CALLER_OF_FIT,
    )
    return nullcontext


def supported(config, device):
    """Return the settings without bfloat16 and compiling where a device does not support them."""
    precision = "bf16" if config.precision == "bf16" and supports_bf16(device) else "fp32"
    compiles = config.compile and not _compiler_problem(device.type)
    return replace(config, precision=precision, compile=compiles)


def supports_bf16(device):
    """Tell whether a device has instructions for products of bfloat16 numbers."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch's own query of its CPU library, which respects ONEDNN_MAX_CPU_ISA. Macs lack it, and
    # on x86 it accepts plain AVX-512, which only emulates bfloat16.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if device.type != "cpu" or ask is None or not ask():
        return False
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not x86 or torch.cpu._is_avx512_bf16_supported()


def compiled(forward, batch_size, device):
    """Compile a function of images (B, 1, 28, 28) and labels (B,) for batches of one size.

    Other batches, such as a short last one, go through ``forward`` as it is, since compiling a
    second program would take longer than it saves. Where there is no compiler for the device, this
    warns and returns ``forward`` itself.
    """
    if problem := _compiler_problem(device.type):
        warnings.warn(
            f"compile is True, but there is no working compiler for {device.type} ({problem}); "
            "training continues without it, and is slower",
            stacklevel=TO_CALLER_OF_FIT,
        )
        return forward
    # On a GPU, one recorded graph of kernels replaces the launches of each.
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    fast = torch.compile(forward, dynamic=False, mode=mode)

    def step(images, labels):
        return (fast if len(labels) == batch_size else forward)(images, labels)

    return step


@cache
def _compiler_problem(kind):
    """Compile a line, and return what went wrong in a few words; None if nothing did."""
    # On first use PyTorch looks for CUDA, and warns where it is installed without a GPU.
    logger = logging.getLogger("torch.utils.cpp_extension")
    logger.disabled = True
    try:
        torch.compile(lambda x: x.cos() + 1, dynamic=False)(torch.ones(8, device=kind))
    except Exception as error:  # of many kinds: no compiler, no headers, an unsupported Python
        return one_line(error)
    finally:
        logger.disabled = False
    return None

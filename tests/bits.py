"""What the tests of training share: comparisons to the bit, needs of a machine, and a trap."""

import pytest
import torch

from fmnist_lib.training import acceleration

needs_compiler = pytest.mark.skipif(
    acceleration._compiler_problem("cpu") is not None, reason="needs a C++ compiler"
)
needs_bf16 = pytest.mark.skipif(
    not acceleration.supports_bf16(torch.device("cpu")), reason="needs a processor with bfloat16"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def same_weights(model, other):
    weights = other.state_dict()
    return all(value.equal(weights[name]) for name, value in model.state_dict().items())


def same_bits(one, other):
    """Compare the histories and weights of two trained networks."""
    return one.history.equals(other.history) and same_weights(one.model, other.model)

import os

import pytest
import torch

from fmnist_lib import files
from fmnist_lib.data import Split, load_fashion_mnist

os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="session")
def sample():
    return load_fashion_mnist(sample=True)


@pytest.fixture(scope="session")
def full_data():
    """All 70,000 images, if they are on this machine; nothing is downloaded for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "MIRRORS", ())
        try:
            return load_fashion_mnist()
        except files.DataError:
            pytest.skip("needs the full data set: run 'make data'")


@pytest.fixture
def random_split():
    """Make splits of noise: (n) -> Split with all ten labels in turn."""

    def make(n, seed=0):
        images = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        return Split(images, torch.arange(n) % 10)

    return make

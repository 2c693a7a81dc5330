"""Fashion-MNIST as tensors: the three splits, and the sample that ships with the package.

The data set: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms", https://arxiv.org/abs/1708.07747. MIT licence, Zalando SE.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fmnist_lib.common import digest, whole_number
from fmnist_lib.download import FILE_NAMES, find_data, raw_folder
from fmnist_lib.inputs import checked_class_names, checked_images, checked_labels

#: Names of the classes that the labels 0 to 9 stand for.
CLASS_NAMES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

N_TRAIN = 48_000  # of the 60,000 official training images; the rest are for validation

# SHA-256, as `Split.describe` gives it, of the splits that `load_fashion_mnist` returns.
OFFICIAL = {
    "train": "90b63628862a9053f58fea0a4f5e996d927ce60adff5fbffc86eedb57f99e8d7",
    "validation": "308abf7c1a2491f5978e2cea5503d61ca6ea04a72829f21749e0bc0136b3ce00",
    "test": "85becac1ad785a4af13d68041f78ad7bbc4d7dd9091c4d8e90869bb47bb80296",
}
SAMPLE = {
    "train": "271c2ea6dea5a431f27ca3c164eee12f1e947eca6b8cc0728ec9ec1cf48970c1",
    "validation": "8219017633318b5c767aef62a54b5361befcf7055a987a2ce269186fc236301a",
    "test": "4711b0baa6504b3bf24a0ae25f0657e6421c00f5628f762da1c1f674b4e7470f",
}

SAMPLE_FILE = Path(__file__).parent / "sample" / "fashion-mnist-sample.npz"


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels: a data set that PyTorch's ``DataLoader`` takes, too.

    Attributes
    ----------
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
    labels : Tensor, (N,), int64
        Indices into ``class_names``.
    class_names : tuple of str
        Default: those of Fashion-MNIST.

    Raises
    ------
    ValueError
        If the images or the labels are not as described.
    """

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple = CLASS_NAMES

    def __post_init__(self):
        checked_images(self.images)
        checked_labels(self.labels, len(self.images), len(checked_class_names(self.class_names)))
        if (kind := getattr(self.labels, "dtype", type(self.labels))) != torch.int64:
            raise ValueError(f"labels are {kind}, expected a Tensor of torch.int64")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        """Select one image and its label by a number, or a `Split` by a slice or a tensor."""
        images, labels = self.images[index], self.labels[index]
        if images.ndim == 3:
            return images, labels.item()
        return replace(self, images=images, labels=labels)

    def describe(self):
        """Identify the data: a dict of ``images`` (how many) and ``sha256`` (of all numbers)."""
        parts = (self.images.detach(), self.labels)
        tensors = (part.cpu().contiguous().numpy() for part in parts)
        return {"images": len(self), "sha256": digest(*tensors)}

    def to(self, device):
        """Copy to a device, unless already there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class FashionMNIST:
    """The three parts of the data set, each a `Split`."""

    train: Split
    validation: Split
    test: Split


def load_fashion_mnist(root=None, *, sample=False):
    """Load Fashion-MNIST as tensors, downloading it first if necessary.

    Parameters
    ----------
    root : path, optional
        Folder that holds the files, see `fmnist_lib.download.find_data`.
    sample : bool
        True loads the 1,500 real images that ship with this package (800 for training, 200 for
        validation, 500 for testing, with equal shares of the classes), and needs no download.

    Returns
    -------
    FashionMNIST
        ``train`` is the first 48,000 of the 60,000 official training images, ``validation`` the
        last 12,000, ``test`` the official 10,000.

    Raises
    ------
    DataError
        If the data cannot be found or downloaded, or is damaged.
    """
    if sample:
        with np.load(SAMPLE_FILE) as file:
            arrays = [file[name] for name in FILE_NAMES]
        n_train = 800
    else:
        folder = raw_folder(find_data(root))
        arrays = [_parse_idx((folder / name).read_bytes()) for name in FILE_NAMES]
        n_train = N_TRAIN
    official, test = _to_split(*arrays[:2]), _to_split(*arrays[2:])
    return FashionMNIST(official[:n_train], official[n_train:], test)


def nearest_neighbours(images):
    """Find the nearest neighbour of each image among the others, pixel by pixel.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28), float32
        At least two. Time and memory grow with N²; 10,000 images take seconds and 400 MB.

    Returns
    -------
    distance : Tensor, (N,), float32
        Euclidean.
    index : Tensor, (N,), int64
    """
    whole_number("the number of images", len(checked_images(images)), 2)
    pixels = images.flatten(start_dim=1)
    index = torch.cdist(pixels, pixels).fill_diagonal_(float("inf")).argmin(dim=1)
    # Measured again, since rounding in cdist's products leaves 0.02 between equal images.
    return (pixels - pixels[index]).norm(dim=1), index


def _to_split(images, labels):
    images = torch.from_numpy(images).unsqueeze(1).to(torch.float32).div_(255)
    return Split(images, torch.from_numpy(labels).to(torch.int64))


def _parse_idx(content):
    # IDX: two zero bytes, the type (8: unsigned byte), the number of dimensions, the dimensions as
    # big-endian 32-bit integers, then the values.
    n_dimensions = content[3]
    shape = np.frombuffer(content, ">i4", count=n_dimensions, offset=4)
    # A copy, because PyTorch needs writable memory.
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dimensions).reshape(shape).copy()

"""Write the sample that ships with the package: the first images of each class, in file order.

python benchmarks/make_sample.py [--data FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from fmnist_lib.data import CLASS_NAMES, SAMPLE_FILE, load_fashion_mnist
from fmnist_lib.download import FILE_NAMES


def make_sample(data, path=SAMPLE_FILE):
    """Write 80, 20 and 50 images of each class as one compressed NumPy archive, uint8."""
    parts = [(data.train, 80), (data.validation, 20), (data.test, 50)]
    chosen = [split[_first_of_each_class(split.labels, n)] for split, n in parts]
    images = [(split.images[:, 0] * 255).round().byte().numpy() for split in chosen]
    labels = [split.labels.byte().numpy() for split in chosen]
    arrays = (np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2])
    np.savez_compressed(path, **dict(zip(FILE_NAMES, arrays, strict=True)))


def _first_of_each_class(labels, n):
    index = [torch.nonzero(labels == k)[:n, 0] for k in range(len(CLASS_NAMES))]
    return torch.cat(index).sort().values


def main():
    """Read the full data set and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="folder to look in first")
    make_sample(load_fashion_mnist(parser.parse_args().data))
    print(f"written: {SAMPLE_FILE}")


if __name__ == "__main__":
    main()

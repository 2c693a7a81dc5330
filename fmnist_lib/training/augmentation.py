"""Augmentation: training images that differ a little each time they are seen.

Shorten and Khoshgoftaar, "A survey on Image Data Augmentation for Deep Learning", Journal of Big
Data 6 (2019), https://doi.org/10.1186/s40537-019-0197-0.
"""

import torch
from torch.nn.functional import pad


def augment(images, shift=0, flip=False, generator=None):
    """Move each image by a few pixels, and mirror about half of them, at random.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    shift : int
        Each image moves by -shift to +shift pixels along both axes; pixels that enter are black.
    flip : bool
        Mirror an image left to right with probability one half.
    generator : torch.Generator, optional
        On the device of the images. Default: PyTorch's own.

    Returns
    -------
    Tensor, (N, 1, 28, 28)
        New images; the input is left unchanged.
    """
    n = len(images)
    options = {"generator": generator, "device": images.device}
    top, left = torch.randint(0, 2 * shift + 1, (2, n, 1), **options)
    pixels = torch.arange(28, device=images.device)
    rows, columns = top + pixels, left + pixels  # (N, 28) each, in the padded image
    if flip:
        mirrored = torch.rand(n, 1, **options) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = pad(images[:, 0], (shift,) * 4)
    each = torch.arange(n, device=images.device)[:, None, None]
    # One gather for the whole batch: image, row and column of each pixel, (N, 28, 28).
    return padded[each, rows[:, :, None], columns[:, None, :]].unsqueeze(1)

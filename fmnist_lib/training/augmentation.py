"""Augmentation: training images that differ a little each time they are seen.

Shorten and Khoshgoftaar, "A survey on Image Data Augmentation for Deep Learning", Journal of Big
Data 6 (2019), https://doi.org/10.1186/s40537-019-0197-0.
"""

import torch
from torch.nn.functional import pad

from fmnist_lib.common import whole_number


def augment(images, shift=0, flip=False, generator=None):
    """Move each image by a few pixels, and mirror about half of them, at random.

    Parameters
    ----------
    images : Tensor, (N, C, H, W)
    shift : int
        Each image moves by -shift to +shift pixels along both axes; pixels that enter are black.
    flip : bool
        Mirror an image left to right with probability one half.
    generator : torch.Generator, optional
        On the device of the images. Default: PyTorch's own.

    Returns
    -------
    Tensor, (N, C, H, W)
        New images; the input is left unchanged.

    Raises
    ------
    ValueError
        If there are not four dimensions, or the shift is not a whole number of 0 or more.
    """
    if images.ndim != 4:
        raise ValueError(f"images are {tuple(images.shape)}, expected (N, C, H, W)")
    shift = whole_number("shift", shift)
    n, channels, height, width = images.shape
    options = {"generator": generator, "device": images.device}
    top, left = torch.randint(0, 2 * shift + 1, (2, n, 1), **options)
    # Places in the padded image: (N, H) and (N, W).
    rows = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    if flip:
        mirrored = torch.rand(n, 1, **options) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    # One gather for the whole batch: image and channel, row and column of each pixel.
    padded = pad(images.flatten(0, 1), (shift,) * 4)
    each = torch.arange(n * channels, device=images.device)[:, None, None]
    rows, columns = (places.repeat_interleave(channels, dim=0) for places in (rows, columns))
    return padded[each, rows[:, :, None], columns[:, None, :]].view(images.shape)

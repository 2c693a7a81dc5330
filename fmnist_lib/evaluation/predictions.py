"""Asking a model."""

import torch

from fmnist_lib.inspection import device_of, evaluating


@torch.no_grad()
def predict(model, images, batch_size=128):
    """Compute the probability of each class for each image.

    Parameters
    ----------
    model : nn.Module
        Used in evaluation mode, on the device where it is.
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
    batch_size : int
        Images at a time; changes speed and memory, not the result.

    Returns
    -------
    ndarray, (N, 10), float32
        Rows add up to 1.

    Raises
    ------
    ValueError
        If there are no images.
    """
    if len(images) == 0:
        raise ValueError("there are no images to predict, expected at least one")
    device = device_of(model)
    with evaluating(model):
        # Copies: a model may write into what it is given.
        batches = (batch.to(device, copy=True) for batch in images.split(batch_size))
        logits = torch.cat([model(batch) for batch in batches])
    return logits.softmax(dim=1).cpu().numpy()

"""Running a model on images."""

import torch

from fmnist_lib.inspection import device_of, evaluating


@torch.no_grad()
def predict(model, images, batch_size=128):
    """Compute the probability of each class for each image.

    Parameters
    ----------
    model : nn.Module
        Runs in evaluation mode, on its own device.
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
    batch_size : int
        Changes speed and memory, not the result.

    Returns
    -------
    ndarray, (N, 10), float32
        Rows add up to 1.
    """
    if len(images) == 0:
        raise ValueError("there are no images to predict, expected at least one")
    device = device_of(model)
    with evaluating(model):
        # Copies, since a model may modify its input.
        batches = (batch.to(device, copy=True) for batch in images.split(batch_size))
        logits = torch.cat([model(batch) for batch in batches])
    return logits.softmax(dim=1).cpu().numpy()

"""Running a model on images."""

import torch

from fmnist_lib.common import whole_number
from fmnist_lib.inputs import checked_images, checked_model, logits_of
from fmnist_lib.inspection import device_of, evaluating


def predict(model, images, batch_size=128):
    """Compute the probability of each class for each image.

    Parameters
    ----------
    model : nn.Module
        Runs in evaluation mode, on its own device.
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
        At least one.
    batch_size : int
        Changes speed and memory, not the result.

    Returns
    -------
    ndarray, (N, C), float32
        Rows add up to 1.

    Raises
    ------
    ValueError
        If the images are not as described, or the model does not turn them into finite logits.

    Warns
    -----
    UserWarning
        If the model returns probabilities instead of logits.
    """
    whole_number("the number of images", len(checked_images(images)), 1)
    batch_size = whole_number("batch_size", batch_size, 1)
    device = device_of(checked_model(model))
    with torch.no_grad(), evaluating(model):
        logits = logits_of(lambda batch: model(batch.to(device)), images, batch_size)
    # In 16 bits, rows would not add up to 1; in 32, 1e39 would be infinite.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.softmax(dim=1).float().cpu().numpy()

"""Optimization: what happens to the weights at each step.

Adam: Kingma and Ba, arXiv:1412.6980. Decoupled weight decay: Loshchilov and Hutter,
arXiv:1711.05101. One-cycle schedule: Smith and Topin, arXiv:1708.07120.
"""

import torch
from torch.optim.lr_scheduler import OneCycleLR


def make_optimizer(model, config, steps):
    """Make the optimizer and the schedule of its learning rate.

    Parameters
    ----------
    model : nn.Module
    config : TrainConfig
    steps : int
        Number of steps of the whole training.

    Returns
    -------
    optimizer : torch.optim.Optimizer
        AdamW, which is Adam where the weight decay is 0.
    scheduler : torch.optim.lr_scheduler.LRScheduler or None
        To be moved after each step; None for a constant learning rate.
    """
    one_cycle = config.schedule == "one-cycle"
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        # OneCycleLR moves the first one, from 0.95 to 0.85 and back. A short training should forget
        # the size of earlier gradients sooner, hence the second.
        betas=(0.9, 0.99 if one_cycle else 0.999),
        weight_decay=config.weight_decay,
        fused=True,
    )
    return optimizer, OneCycleLR(optimizer, config.lr, total_steps=steps) if one_cycle else None

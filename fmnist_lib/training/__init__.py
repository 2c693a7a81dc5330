"""Training: `fit`, its settings `TrainConfig`, and the `TrainedModel` that it returns."""

from fmnist_lib.training.config import TrainConfig, pick_device

__all__ = ["TrainConfig", "TrainedModel", "fit", "pick_device"]


def __getattr__(name):
    # A command that only checks settings answers at once: it need not load PyTorch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fmnist_lib.training import loop

    return getattr(loop, name)

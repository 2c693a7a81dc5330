"""Training: `fit`, its settings `TrainConfig`, its listeners, and the `TrainedModel` it returns."""

from importlib import import_module

from fmnist_lib.training.config import TrainConfig, pick_device

__all__ = ["Checkpoint", "EventLog", "TrainConfig", "TrainedModel", "fit", "pick_device"]

_MODULES = {"Checkpoint": "checkpoints", "EventLog": "listeners"}


def __getattr__(name):
    # Imported late, so that a command that only checks settings need not load PyTorch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'loop')}"), name)

"""Training: `fit` and its settings, `TrainConfig`."""

from fmnist_lib.training.config import TrainConfig, pick_device
from fmnist_lib.training.loop import HISTORY_COLUMNS, TrainedModel, fit

__all__ = ["HISTORY_COLUMNS", "TrainConfig", "TrainedModel", "fit", "pick_device"]

"""How good a trained model is: its predictions, and what follows from them.

N is the number of images, C that of classes. ``predictions`` runs the model, ``tables`` counts its
right and wrong predictions, ``significance`` says how certain the counts are,
``calibration`` whether its probabilities can be trusted, ``robustness`` how much accuracy is left
on damaged images. Metrics come from scikit-learn, intervals and tests from SciPy and statsmodels.
"""

from fmnist_lib.evaluation.calibration import (
    apply_temperature,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)
from fmnist_lib.evaluation.predictions import predict
from fmnist_lib.evaluation.robustness import CORRUPTIONS, accuracy_under_corruption, corrupt
from fmnist_lib.evaluation.significance import (
    accuracy_difference,
    accuracy_interval,
    bootstrap_interval,
    mcnemar_test,
)
from fmnist_lib.evaluation.tables import (
    accuracy,
    class_report,
    confident_mistakes,
    confusion_matrix,
    summarize_predictions,
    worst_confusions,
)

__all__ = [
    "CORRUPTIONS",
    "accuracy",
    "accuracy_difference",
    "accuracy_interval",
    "accuracy_under_corruption",
    "apply_temperature",
    "bootstrap_interval",
    "calibration_error",
    "class_report",
    "confident_mistakes",
    "confusion_matrix",
    "corrupt",
    "fit_temperature",
    "log_loss",
    "mcnemar_test",
    "predict",
    "reliability",
    "summarize_predictions",
    "worst_confusions",
]

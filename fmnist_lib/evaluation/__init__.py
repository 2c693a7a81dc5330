"""What a trained model is worth: predictions, and what can be said from them.

N is the number of images; the ten classes are those of `CLASS_NAMES`. ``predictions`` asks the
model, ``tables`` counts its answers, ``significance`` says how sure the counts are, ``calibration``
whether its probabilities can be believed, ``robustness`` what is left of its accuracy when the
images get worse. Metrics are scikit-learn's, intervals and tests scipy's and statsmodels'.
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
    test_metrics,
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
    "test_metrics",
    "worst_confusions",
]

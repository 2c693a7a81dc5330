"""Optional TensorBoard event files of a training."""

import warnings

import torch

from fmnist_lib.data import CLASS_NAMES

N_SAMPLES = 16


class EventLog:
    """Write losses, accuracies, sample predictions and the graph of a model; a context manager.

    Parameters
    ----------
    log_dir : path or None
        Folder for the event files; None writes nothing.
    model : nn.Module
    validation : Split
        Its first 16 images are the samples.

    Raises
    ------
    ModuleNotFoundError
        If files are asked for and the package ``tensorboard`` is not installed.
    """

    def __init__(self, log_dir, model, validation):
        self.writer, self.model = None, model
        if log_dir is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ModuleNotFoundError(
                f"event files were asked for in {log_dir}, but the package tensorboard is not "
                "installed; run 'pip install tensorboard', or leave log_dir out"
            ) from None
        from torchvision.utils import make_grid

        self.samples = validation[:N_SAMPLES]
        self.writer = SummaryWriter(str(log_dir))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the graph is found, which is not our choice
            self.writer.add_graph(model.eval(), self.samples.images.clone())
        self.writer.add_image("samples", make_grid(self.samples.images, nrow=4))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.writer:
            self.writer.close()

    def write_epoch(self, row):
        """Write one row of the history, and what the model now makes of the samples.

        Parameters
        ----------
        row : dict
            Keys ``epoch, train_loss, val_loss, train_acc, val_acc``.
        """
        if not self.writer:
            return
        epoch = row["epoch"]
        for kind, name in (("loss", "loss"), ("accuracy", "acc")):
            values = {"train": row[f"train_{name}"], "validation": row[f"val_{name}"]}
            for split, value in values.items():
                self.writer.add_scalar(f"{kind}/{split}", value, epoch)
        self.writer.add_text("sample predictions", self._prediction_table(), epoch)

    @torch.no_grad()
    def _prediction_table(self):
        logits = self.model(self.samples.images.clone())  # it may write into what it is given
        probability, predicted = logits.softmax(dim=1).max(dim=1)
        rows = [
            f"| {i} | {CLASS_NAMES[label]} | {CLASS_NAMES[guess]} | {p:.2f} |"
            for i, (label, guess, p) in enumerate(
                zip(self.samples.labels, predicted, probability, strict=True)
            )
        ]
        return "\n".join(
            ["| image | label | prediction | probability |", "|---|---|---|---|", *rows]
        )

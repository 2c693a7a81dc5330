"""Listeners of `fit`: the progress bar, and TensorBoard event files."""

import warnings
from functools import partial

import torch

from fmnist_lib.common import writing
from fmnist_lib.progress import progress_bar

N_SAMPLES = 16


class ProgressBar:
    """Show the epoch, its steps, and the newest loss and accuracy."""

    def on_start(self, state):
        """Open the bar, with the steps from a checkpoint already done."""
        steps = state.steps_per_epoch
        total, done = state.config.epochs * steps, len(state.history) * steps
        bar = state.exits.enter_context(progress_bar(total, "training", initial=done))
        self._show_epoch(state, bar)
        self.bar = bar

        def after_step(*_):
            bar.update()
            # On a GPU, reading a number back would make it wait.
            if not bar.disable and bar.n % 50 == 0 and state.device.type == "cpu":
                loss, accuracy = state.means.losses[-1], state.means.accuracy
                bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.3f}", refresh=False)

        state.optimizer.register_step_post_hook(after_step)

    def __call__(self, state):
        """Show the epoch's validation loss and accuracy."""
        row = state.history[-1]
        self.bar.set_postfix_str(f"val. loss {row['val_loss']:.3f}, accuracy {row['val_acc']:.3f}")
        self._show_epoch(state, self.bar)

    def _show_epoch(self, state, bar):
        epochs = state.config.epochs
        epoch = min(len(state.history) + 1, epochs)
        bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)


class EventLog:
    """Write losses, accuracies, sample predictions and the graph of a model for TensorBoard.

    Parameters
    ----------
    folder : path
        For the event files.

    Raises
    ------
    ModuleNotFoundError
        If the package ``tensorboard`` is not installed.
    UserError
        From `fit`, if the folder cannot be written.
    """

    def __init__(self, folder):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ModuleNotFoundError(
                f"event files were requested in {folder}, but the package tensorboard is not "
                "installed; run 'pip install tensorboard', or train without an event log"
            ) from None
        self._make_writer = partial(SummaryWriter, str(folder))
        self._writing = partial(writing, "an event file", folder)

    def on_start(self, state):
        """Write the graph, and the first 16 validation images, which are the samples."""
        from torchvision.utils import make_grid

        self.samples = state.validation[:N_SAMPLES]
        with self._writing():
            self.writer = self._make_writer()
            state.exits.callback(self._close)
            with warnings.catch_warnings(), state.fork_rng():
                warnings.simplefilter("ignore")  # about how PyTorch traces the graph
                self.writer.add_graph(state.model.eval(), self.samples.images.clone())
            self.writer.add_image("samples", make_grid(self.samples.images, nrow=4))
            self.writer.flush()  # a full disk should fail now

    def __call__(self, state):
        """Write the newest row of the history, and what the model now predicts for the samples."""
        row = state.history[-1]
        epoch = row["epoch"]
        with self._writing():
            for kind, name in (("loss", "loss"), ("accuracy", "acc")):
                self.writer.add_scalar(f"{kind}/train", row[f"train_{name}"], epoch)
                self.writer.add_scalar(f"{kind}/validation", row[f"val_{name}"], epoch)
            self.writer.add_text("sample predictions", self._prediction_table(state.model), epoch)

    def _close(self):
        with self._writing():
            self.writer.close()

    @torch.no_grad()
    def _prediction_table(self, model):
        logits = model(self.samples.images.clone())  # the model may modify its input
        probability, predicted = logits.softmax(dim=1).max(dim=1)
        names = dict(enumerate(self.samples.class_names))  # the model may have more outputs
        lines = ["| image | label | prediction | probability |", "|---|---|---|---|"]
        for i, label in enumerate(self.samples.labels.tolist()):
            guess = names.get(predicted[i].item(), "none of them")
            lines.append(f"| {i} | {names[label]} | {guess} | {probability[i]:.2f} |")
        return "\n".join(lines)

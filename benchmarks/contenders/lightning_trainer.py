"""Lightning's Trainer, on tensors in memory."""

from importlib.metadata import version

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import build_model


def versions(options):
    return {"lightning": version("lightning"), "torch": version("torch")}


class Classifier(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model, self.criterion = model, nn.CrossEntropyLoss()

    def _step(self, batch, name):
        images, labels = batch
        logits = self.model(images)
        loss = self.criterion(logits, labels)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log_dict({f"{name}_loss": loss, f"{name}_acc": accuracy}, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, _):
        return self._step(batch, "train")

    def validation_step(self, batch, _):
        return self._step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-4)


class Report(lightning.Callback):
    def __init__(self, report):
        self.report = report

    def on_train_epoch_end(self, trainer, module):
        self.report(trainer.callback_metrics["val_acc"])


def train(options, report):
    data = load_fashion_mnist()
    train_loader, val_loader = (
        DataLoader(TensorDataset(split.images, split.labels), batch_size=64)
        for split in (data.train, data.validation)
    )
    trainer = lightning.Trainer(
        max_epochs=1000,
        accelerator="cpu",
        callbacks=[Report(report)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(build_model(options.network, seed=0)), train_loader, val_loader)

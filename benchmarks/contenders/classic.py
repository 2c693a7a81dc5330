"""The classic loop of the tutorials: torchvision's data set, ToTensor, DataLoader."""

from importlib.metadata import version

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import ToTensor

from fmnist_lib.download import find_data
from fmnist_lib.models import build_model


def versions(options):
    return {"torch": version("torch"), "torchvision": version("torchvision")}


def train(options, report):
    official = datasets.FashionMNIST(find_data(), train=True, transform=ToTensor())
    parts = Subset(official, range(48_000)), Subset(official, range(48_000, 60_000))
    train_loader, val_loader = (
        DataLoader(part, batch_size=64, num_workers=options.workers) for part in parts
    )
    model = build_model(options.network, seed=0).to(options.device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    while True:
        model.train()
        loss_sum, correct = 0.0, 0
        for images, labels in train_loader:
            images, labels = images.to(options.device), labels.to(options.device)
            optimizer.zero_grad()
            logits = model(images)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
        model.eval()
        loss_sum, correct = 0.0, 0
        with torch.no_grad():
            for images, labels in val_loader:
                images, labels = images.to(options.device), labels.to(options.device)
                logits = model(images)
                loss_sum += criterion(logits, labels).item() * len(labels)
                correct += (logits.argmax(1) == labels).sum().item()
        report(correct / 12_000)

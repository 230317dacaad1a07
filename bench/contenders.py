"""The ways to train N models that `make bench` compares. All do one job, and each does it in its best honest setting.

The job: N models of one architecture, the same first weights, rows, batch size, number of steps and optimizer; after
every epoch the mean training loss and, on the validation rows, loss and accuracy (scikit-learn: accuracy alone).
Logging, progress bars and checkpoints are off everywhere.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from helpers import engine, training
from helpers.data import Dataset

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def _loaders(data: Dataset, batch_size: int) -> tuple[DataLoader, DataLoader]:
    train, val = TensorDataset(data.x_train, data.y_train), TensorDataset(data.x_val, data.y_val)
    return DataLoader(train, batch_size, shuffle=True, drop_last=True), DataLoader(val, 256)


def dataloader(recipes, data) -> None:
    """The loop that tutorials show: a DataLoader with shuffling, an ordinary optimizer. The reference."""
    for r in recipes:
        model = training.fresh_model(r, data)
        optimizer = OPTIMIZERS[r.optimizer](model.parameters(), lr=r.lr)
        train, val = _loaders(data, r.batch_size)
        for _ in range(r.epochs):
            model.train()
            train_loss = 0.0
            for x, y in train:
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                train_loss += loss.item()
            model.eval()
            val_loss = right = 0.0
            with torch.no_grad():
                for x, y in val:
                    logits = model(x)
                    val_loss += F.cross_entropy(logits, y, reduction="sum").item()
                    right += (logits.argmax(1) == y).sum().item()


def one_thread(recipes, data) -> None:
    """The reference where it may not use a second core."""
    dataloader(recipes, data)


def tensors(recipes, data) -> None:
    """The same loop without a DataLoader: preloaded tensors, drawn by index, and a fused optimizer."""
    for r in recipes:
        model = training.fresh_model(r, data)
        optimizer = OPTIMIZERS[r.optimizer](model.parameters(), lr=r.lr, fused=True)
        for _ in range(r.epochs):
            model.train()
            order = torch.randperm(data.n_train)
            train_loss = torch.zeros(())
            for i in order[: data.n_train // r.batch_size * r.batch_size].view(-1, r.batch_size):
                loss = F.cross_entropy(model(data.x_train[i]), data.y_train[i])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                train_loss += loss.detach()
            model.eval()
            with torch.no_grad():
                logits = model(data.x_val)
                F.cross_entropy(logits, data.y_val).item(), (logits.argmax(1) == data.y_val).float().mean().item()


def skorch(recipes, data) -> None:
    """skorch's NeuralNetClassifier, its printing off."""
    from skorch import NeuralNetClassifier
    from skorch.helper import predefined_split

    for r in recipes:
        NeuralNetClassifier(
            training.fresh_model(r, data), criterion=torch.nn.CrossEntropyLoss, optimizer=OPTIMIZERS[r.optimizer],
            lr=r.lr, batch_size=r.batch_size, max_epochs=r.epochs, iterator_train__shuffle=True,
            iterator_train__drop_last=True, iterator_valid__batch_size=256, callbacks__print_log=None,
            train_split=predefined_split(TensorDataset(data.x_val, data.y_val)), verbose=0,
        ).fit(data.x_train, data.y_train)  # fmt: skip


def lightning(recipes, data) -> None:
    """PyTorch Lightning's Trainer without logger, checkpoints, bars and the rehearsal of the validation."""
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self, recipe):
            super().__init__()
            self.recipe, self.model = recipe, training.fresh_model(recipe, data)

        def training_step(self, batch, _):
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, _):
            logits = self.model(batch[0])
            F.cross_entropy(logits, batch[1]), (logits.argmax(1) == batch[1]).float().mean()

        def configure_optimizers(self):
            return OPTIMIZERS[self.recipe.optimizer](self.model.parameters(), lr=self.recipe.lr)

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for r in recipes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would like worker processes, which are slower here
            pl.Trainer(
                accelerator="cpu", max_epochs=r.epochs, logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            ).fit(Module(r), *_loaders(data, r.batch_size))  # fmt: skip


def scikit_learn(recipes, data) -> None:
    """scikit-learn's MLPClassifier: same layers, optimizer, rate, batch size, epochs and number of rows."""
    from sklearn.neural_network import MLPClassifier

    x = torch.cat([data.x_train, data.x_val]).flatten(1).numpy()
    y = torch.cat([data.y_train, data.y_val]).numpy()
    for r in recipes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged: that is as it should be
            MLPClassifier(
                (r.width,) * r.depth, solver=r.optimizer, learning_rate_init=r.lr, batch_size=r.batch_size, alpha=0,
                max_iter=r.epochs, tol=0, n_iter_no_change=r.epochs + 1, momentum=0, random_state=r.seed,
                early_stopping=True, validation_fraction=len(data.y_val) / len(y),
            ).fit(x, y)  # fmt: skip


def loop(recipes, data) -> None:
    """`train_one`, the book's own loop, one model after another."""
    for r in recipes:
        training.train_one(r, data)


def stacks(recipes, data) -> None:
    """`train`, the engine of this book."""
    engine.train(recipes, data)


ALL = {f.__name__: f for f in (dataloader, one_thread, tensors, skorch, lightning, scikit_learn, loop)}
ALL["engine"] = stacks
MODULES = {"skorch": "skorch", "lightning": "pytorch_lightning"}  # rivals that the book itself does not need


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None

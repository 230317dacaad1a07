"""Dropout taken apart: when the mask is drawn, where it acts, whether it is rescaled, how such a network predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import vmap

from helpers import losses, models, optim, stacks, streams, training
from helpers.labs.regularization import all_weights
from helpers.recipe import Recipe


@dataclass(frozen=True)
class Masks:
    """One way to draw masks. p: share of zeros; every: only each k-th step has a mask; hold: steps that a mask is kept;
    rows: a mask for each example, else one for the whole batch; place: "hidden" or "inputs"; rescale: divide by 1 - p;
    anneal: p falls to 0 in a straight line over the training."""

    p: float = 0.5
    every: int = 1
    hold: int = 1
    rows: bool = True
    place: str = "hidden"
    rescale: bool = True
    anneal: bool = False

    def draw(self, step: int, steps: int, seed: int, widths: Sequence[int], batch: int) -> list[Tensor]:
        """The masks of this step: (batch, width) for each place, the inputs first."""
        generator = torch.Generator().manual_seed(streams.stream(seed, step // self.hold))
        p = self.p * (1 - step / steps) if self.anneal else self.p
        masks = []
        for k, width in enumerate(widths):
            u = torch.rand(batch if self.rows else 1, width, generator=generator)
            off = step % self.every or (k == 0) != (self.place == "inputs")
            masks.append(torch.ones(batch, width) if off else ((u >= p) / (1 - p * self.rescale)).expand(batch, width))
        return masks


class Masked(nn.Module):
    """Multiplies by a mask that is set from outside before each training step; in evaluation it changes nothing."""

    def __init__(self, batch: int, width: int):
        super().__init__()
        self.register_buffer("mask", torch.ones(batch, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training else x


def with_masks(recipe: Recipe, data) -> nn.Module:
    """The recipe's plain network with a `Masked` before its first layer and after each hidden activation."""
    body = training.fresh_model(recipe, data)
    masked, width = [body[0], Masked(recipe.batch_size, data.n_features)], recipe.width
    for layer in body[1:]:
        masked += [layer, Masked(recipe.batch_size, width)] if isinstance(layer, nn.ReLU) else [layer]
    return nn.Sequential(*masked)


def train_masked(ways: dict[str, Masks], recipe: Recipe, data, *, seeds: int) -> dict[tuple[str, int], nn.Module]:
    """Train the recipe under each way of drawing masks, with paired seeds: same first weights, order and draws.

    The loop is `training.fit`, on a stack. Returns {(way, seed): network in evaluation mode}.
    """
    data, keys = training.prepared(recipe, data), [(way, seed) for way in ways for seed in range(seeds)]
    per_epoch, done = training.steps_per_epoch(recipe, data.n_train), {}
    steps = recipe.epochs * per_epoch
    widths = [data.n_features, *[recipe.width] * recipe.depth]
    for part in (keys[i : i + stacks.STACK] for i in range(0, len(keys), stacks.STACK)):
        stack = stacks.Stack([with_masks(recipe.but(seed=seed), data) for _, seed in part])
        slots = [getattr(stack, name.replace(".", "/")) for name in stack.buffer_names]
        optimizer = optim.make(recipe.optimizer, stack.parameters(), recipe)

        def batches(part=part, slots=slots):
            for step in range(steps):
                epoch, at = divmod(step, per_epoch)
                order = [training.batch_order(s, data.n_train, recipe.batch_size, epoch)[at] for _, s in part]
                drawn = [ways[w].draw(step, steps, s, widths, recipe.batch_size) for w, s in part]
                for slot, masks in zip(slots, zip(*drawn, strict=True), strict=True):
                    slot.copy_(torch.stack(masks))
                i = torch.stack(order)
                yield data.x_train[i], data.y_train[i]

        def lr_at(step, group=optimizer.param_groups[0]):
            group["lr"] = recipe.lr * training.lr_factor_at(recipe, step, per_epoch)

        for _ in training.fit(stack, vmap(losses.make(recipe)), optimizer, batches(), lr_at):
            pass
        done |= {key: stack.unstack(i).eval() for i, key in enumerate(part)}
    return done


def calibration_error(chance: Tensor, labels: Tensor, bins: int = 10) -> float:
    """Expected calibration error: |accuracy - mean confidence| in bins of confidence, weighted by their size
    (Guo et al. 2017). chance (n, classes), rows sum to 1."""
    sure, said = chance.max(-1)
    right, place = (said == labels).float(), (sure * bins).long().clamp(max=bins - 1)
    total = sum(abs((right - sure)[place == b].sum().item()) for b in range(bins))
    return total / len(labels)


@torch.no_grad()
def habits(networks: dict[tuple[str, int], nn.Module], data, *, delete: float = 0.5, draws: int = 5) -> pd.DataFrame:
    """How each network behaves on the validation images of the data that it was trained on, a row for each.

    Columns: accuracy, loss, ece (`calibration_error`), excess (mean confidence minus accuracy), size (sum of squared
    weights), correlation (mean |r| between the hidden units of the first layer that vary), without_hidden and
    without_inputs (accuracy with the share `delete` of hidden units, or of pixels, set to 0; mean over draws).
    """
    x, y, rows = data.x_val.flatten(1), data.y_val, []
    for (way, seed), model in networks.items():
        chance = model(data.x_val).softmax(-1)
        row = {"way": way, "seed": seed, "accuracy": (chance.argmax(-1) == y).float().mean().item()}
        row |= {"loss": -chance.gather(1, y[:, None]).clamp(min=1e-12).log().mean().item()}
        row |= {"ece": calibration_error(chance, y), "excess": chance.max(-1)[0].mean().item() - row["accuracy"]}
        row |= {"size": all_weights(model).square().sum().item()}
        w = models.weight_layers(model)[0]
        units = torch.relu(x @ w.weight.T + w.bias)
        r = torch.corrcoef(units[:, units.std(0) > 1e-6].T)
        row["correlation"] = ((r.abs().sum() - len(r)) / (len(r) * (len(r) - 1))).item()
        for place in ("hidden", "inputs"):
            lost = _masked_mean(model, data, Masks(p=delete, place=place, rescale=False), draws, average=False)
            row[f"without_{place}"] = (lost.argmax(-1) == y).float().mean().item()
        rows.append(row)
    return pd.DataFrame(rows)


@torch.no_grad()
def _masked_mean(model, data, way: Masks, draws: int, *, average: bool) -> Tensor:
    """Class probabilities of a `with_masks` network under `draws` masks: (draws, n, classes), or their mean."""
    layers = [m for m in model if isinstance(m, Masked)]
    n, keep, out = len(data.x_val), [m.mask for m in layers], []
    model.train()
    for k in range(draws):
        masks = way.draw(k, draws, 10_000, [m.mask.shape[-1] for m in layers], n)
        for layer, mask in zip(layers, masks, strict=True):
            layer.mask = mask
        out.append(model(data.x_val).softmax(-1))
    model.eval()
    for layer, mask in zip(layers, keep, strict=True):
        layer.mask = mask
    return torch.stack(out).mean(0) if average else torch.stack(out)


def ways_to_predict(networks: dict[tuple[str, int], nn.Module], data, way: Masks, *, masks: int) -> pd.DataFrame:
    """Accuracy and loss of networks trained with dropout, read in three ways: "all units" (weights scaled, the usual
    way), "one mask", and "mean of masks" (Monte Carlo). Rows: seed, reading, accuracy, loss."""
    rows, y = [], data.y_val
    for (_, seed), model in networks.items():
        one = _masked_mean(model, data, way, 1, average=True)
        many = _masked_mean(model, data, way, masks, average=True)
        for name, chance in (
            ("all units", model(data.x_val).detach().softmax(-1)),
            ("one mask", one),
            ("mean of masks", many),
        ):
            loss = -chance.gather(1, y[:, None]).clamp(min=1e-12).log().mean().item()
            accuracy = (chance.argmax(-1) == y).float().mean().item()
            rows.append({"seed": seed, "reading": name, "accuracy": accuracy, "loss": loss})
    return pd.DataFrame(rows)

"""Looking inside a network: the scale of signals and gradients, layer by layer, and units that are copies of others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor, nn

from helpers import checks, losses, models, optim, training
from helpers.recipe import FIELDS, Recipe


def layer_scales(recipes: Recipe | Iterable[Recipe], data, *, seeds: int = 8, n: int = 256) -> pd.DataFrame:
    """Scale of signals and gradients in each layer before training, for every recipe and seed.

    One batch of `n` training examples goes forward and back through the freshly initialized network. Rows: layer (1 is
    the first), signal = root mean square of the layer's output before the activation, gradient = root mean square of
    the loss gradient with respect to that output (per example), weight_sd = standard deviation of the layer's weights,
    and every field of the recipe. A quantity that overflows is infinite or NaN: it is not hidden.
    """
    recipes = checks.several("recipes", [recipes] if isinstance(recipes, Recipe) else recipes, "Recipe().vary(...)")
    for recipe in recipes:
        training.given(recipe, data)
    seeds, n = checks.integer("seeds", seeds, low=1, try_="8"), checks.integer("n", n, low=1, try_="256")
    rows = []
    for recipe in recipes:
        for seed in range(seeds):
            recipe = recipe.but(seed=seed)
            model = training.fresh_model(recipe, data)
            for row in model_scales(model, data.x_train[:n], data.y_train[:n], losses.make(recipe)):
                rows.append({**recipe.fields(), **row})
    return pd.DataFrame(rows)[[*FIELDS, "layer", "signal", "gradient", "weight_sd"]]


def model_scales(model: nn.Module, x: Tensor, y: Tensor, loss) -> list[dict]:
    """One dict per layer for this model and batch: layer, signal, gradient, weight_sd (see `layer_scales`)."""
    checks.function("loss", loss, "losses.cross_entropy"), _batch(model, x, y)
    layers, outputs = models.weight_layers(model), []

    def keep(module, args, out):
        out.retain_grad()
        outputs.append(out)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    model.train()
    model.zero_grad()
    value = loss(model(x), y)
    for handle in handles:
        handle.remove()
    value.backward()

    def rms(t):
        return t.detach().double().square().mean().sqrt().item()

    return [
        # the loss is a mean over the batch; times its size gives the gradient of one example's loss
        {"layer": i, "signal": rms(out), "gradient": rms(out.grad) * len(x), "weight_sd": layer.weight.std().item()}
        for i, (layer, out) in enumerate(zip(layers, outputs, strict=True), 1)
    ]


def _batch(model, x, y) -> None:
    checks.kind("model", model, nn.Module, "an nn.Module, such as training.fresh_model(recipe, data)")
    checks.finite("x", checks.tensor("x", x, low=2))
    checks.labels("y", y, len(x), _classes(model))


def _classes(model: nn.Module) -> int:
    """Outputs of the model's last weight layer; without one, as many as one likes."""
    layers = models.weight_layers(model)
    return len(layers[-1].weight) if layers else 2**31


def distinct_units(layer: nn.Module, tolerance: float = 1e-6) -> int:
    """How many units of a linear layer are different: rows of [weight, bias] that no earlier row equals.

    Two rows are equal when no entry differs by more than `tolerance` times the largest absolute entry.
    """
    checks.kind("layer", layer, nn.Linear | nn.Conv2d, "a linear or convolutional layer of a model")
    checks.number("tolerance", tolerance, low=0, below=1, try_="1e-6")
    rows = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach()
    limit = tolerance * max(rows.abs().max().item(), 1e-30)
    same = (torch.cdist(rows, rows, p=float("inf")) <= limit).int()
    return int((same.argmax(1) == torch.arange(len(rows))).sum())


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean Euclidean norm, over examples, of the gradient of the right class's logit with respect to the input.

    It says how steep the learned function is: 0 is flat.
    """
    _batch(model, x, y)
    x = x.detach().clone().requires_grad_()
    model.eval()
    model(x).gather(1, y[:, None]).sum().backward()
    return x.grad.flatten(1).norm(dim=1).mean().item()


def full_loss_trace(recipe: Recipe, data, steps: int) -> Tensor:
    """Loss on the *whole* training set before the first step and after each of `steps` steps: (steps + 1,).

    The recipe decides batch size, rate and optimizer; training is `training.fit`.
    """
    training.given(recipe, data), checks.integer("steps", steps, low=1, high=1_000_000, try_="100")
    data = training.prepared(recipe, data)
    model = training.fresh_model(recipe, data)
    optimizer = optim.make(recipe.optimizer, model.parameters(), recipe)

    loss = losses.make(recipe)

    def batches():
        for epoch in itertools.count():
            for i in training.batch_order(recipe.seed, data.n_train, recipe.batch_size, epoch):
                yield data.x_train[i], data.y_train[i]

    def whole():
        return training.evaluate(model, loss, data.x_train, data.y_train)[0]

    loop = training.fit(model, loss, optimizer, batches(), lambda step: None)
    return torch.stack([whole(), *(whole() for _ in itertools.islice(loop, steps))])

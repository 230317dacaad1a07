"""Many models of one architecture as one: the same loop trains them all in one pass.

The definition of a run is `training.train_one`; a stack computes the same thing faster. Model i's loss depends on
slice i of each stacked parameter alone, so the gradient of the summed losses is the stack of the gradients; and every
optimizer in this book works element by element, so one step on the rows [a:b] is b - a ordinary steps.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from helpers import dense, losses, optim, quick, training, written
from helpers.recipe import Recipe

SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
OPTIMIZER_FIELDS = (
    "optimizer", "lr", "momentum", "beta1", "beta2", "weight_decay", "l1", "l1_step", "schedule", "warmup",
)  # fmt: skip
STACK = 32  # models in one stack: about as many perceptrons as stay in a CPU's cache
LENETS = 4  # the same for LeNets on a CPU
CNNS = 8  # and for CNNs that are small


class Stack(nn.Module):
    """N models of one architecture as one module: every parameter and buffer gains a leading axis of length N.

    All parameters lie in one tensor, `flat`, a row for each model, so that an optimizer moves some rows in one call.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        params, buffers = stack_module_state(list(members))
        self.n, self.shapes, self.buffer_names = len(members), {k: v.shape for k, v in params.items()}, list(buffers)
        self.flat = nn.Parameter(torch.cat([v.detach().flatten(1) for v in params.values()], 1))
        for name, value in buffers.items():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())
        first = members[0]
        self.__dict__["skeleton"] = _twin(first, dict([*first.named_parameters(), *first.named_buffers()]))
        if self.n == 1:
            quick.quicken(self.skeleton)
        self.chain = written.layers(members[0])
        self.sizes, self._views = [shape[1:].numel() for shape in self.shapes.values()], None

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Views of a tensor laid out like `flat`: one for each parameter, of shape (N, ...)."""
        return [part.view(s) for part, s in zip(flat.split(self.sizes, 1), self.shapes.values(), strict=True)]

    def views(self) -> list[torch.Tensor]:
        """The parameters one by one, without their gradients."""
        if self._views is None:
            self._views = self.split(self.flat.detach())
        return self._views

    def _apply(self, *args, **kwargs):  # `to` moves the memory that the views look at
        self._views = None
        return super()._apply(*args, **kwargs)

    def buffers_by_name(self) -> dict[str, torch.Tensor]:
        return {k: getattr(self, k.replace(".", "/")) for k in self.buffer_names}

    def forward(self, x):
        """Training: x (N, batch, ...), model i reads x[i]. Evaluation: x (batch, ...), read by all. Gives (N, ...)."""
        if self.chain and self.training:
            return self._chained(x)
        if self.chain:
            most, least = self.chain[0].at_once
            parts = x.split(max(most // self.n, least))
            return torch.cat([self._chained(part.expand(self.n, *part.shape)) for part in parts], 1)
        self.skeleton.train(self.training)
        params, buffers = dict(zip(self.shapes, self.split(self.flat), strict=True)), self.buffers_by_name()
        if self.n == 1:  # as the one model that it is
            values = {k: v.view(v.shape[1:]) for k, v in params.items()} | {k: v[0] for k, v in buffers.items()}
            return functional_call(self.skeleton, values, (x[0] if self.training else x,)).unsqueeze(0)

        def one(params, buffers, x):
            return functional_call(self.skeleton, (params, buffers), (x,))

        return vmap(one, in_dims=(0, 0, 0 if self.training else None))(params, buffers, x)

    def _chained(self, x: torch.Tensor) -> torch.Tensor:
        return dense.Chain.apply(x, self.flat, self.state(), self.split, self.chain)

    def state(self) -> dense.State:
        """What the layers that are written out read."""
        return dense.State(self.views(), list(self.buffers_by_name().values()), self.training)

    def unstack(self, i: int) -> nn.Module:
        """Model i by itself, as an ordinary module with copies of its weights."""
        return _twin(self.skeleton, self.slice_of(i))

    def slice_of(self, i: int) -> dict:
        """A copy of the weights and buffers of model i, named as in an ordinary module."""
        return {k: v[i].detach().clone() for k, v in self._all().items()}

    @torch.no_grad()
    def set_slice(self, i: int, state: dict) -> None:
        """Give model i these weights and buffers."""
        for k, v in self._all().items():
            v[i].copy_(state[k])

    def _all(self) -> dict[str, torch.Tensor]:
        return dict(zip(self.shapes, self.views(), strict=True)) | self.buffers_by_name()


def _twin(module: nn.Module, values: dict[str, torch.Tensor], prefix: str = "") -> nn.Module:
    """A copy of a module with these values; `copy.deepcopy` takes ten times as long, for the hooks of every layer."""
    twin = object.__new__(type(module))
    twin.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in module.__dict__.items()}
    for name, p in module.named_parameters(recurse=False):
        twin._parameters[name] = nn.Parameter(values[prefix + name], p.requires_grad)
    twin._buffers |= {name: values[prefix + name] for name, _ in module.named_buffers(recurse=False)}
    twin._modules |= {name: _twin(part, values, f"{prefix}{name}.") for name, part in module.named_children()}
    return twin


class StackedOptimizer:
    """One torch.optim object for each run of neighbours with equal settings, on their rows of the stack."""

    def __init__(self, stack: Stack, recipes: Sequence[Recipe]):
        self.stack, self.parts = stack, []
        kinds = [settings(r) for r in recipes]
        cuts = [i for i in range(len(recipes)) if i == 0 or kinds[i] != kinds[i - 1]] + [len(recipes)]
        for a, b in zip(cuts, cuts[1:], strict=False):
            memory = nn.Parameter(stack.flat.detach()[a:b])
            self.parts.append((a, b, memory, optim.make(recipes[a].optimizer, [memory], recipes[a]), recipes[a]))

    def set_lr(self, step: int, per_epoch: int) -> None:
        for *_, optimizer, recipe in self.parts:
            optimizer.param_groups[0]["lr"] = recipe.lr * training.lr_factor_at(recipe, step, per_epoch)

    def zero_grad(self) -> None:
        self.stack.flat.grad = None

    def step(self) -> None:
        for a, b, memory, optimizer, _ in self.parts:
            memory.grad = self.stack.flat.grad[a:b]
            optimizer.step()


def settings(recipe: Recipe) -> tuple:
    """What an optimizer reads: neighbours in a stack that agree in it share one."""
    return tuple(getattr(recipe, k) for k in OPTIMIZER_FIELDS)


class Direct(nn.Module):
    """A stack that `dense` writes out, and its cross-entropy, as `training.fit` wants them: past autograd.

    The gradient is written straight to where the optimizer reads it. In small networks autograd is half of a step.
    """

    def __init__(self, stack: Stack, smoothing: float):
        super().__init__()
        # past nn.Module's own way to set an attribute, which takes longer than a small layer; and to switch to training
        self.__dict__["stack"], self.smoothing = stack, smoothing
        self.state, self.grad = stack.train().state(), torch.empty_like(stack.flat)
        self.grads = stack.split(self.grad)

    def forward(self, x):
        if not self.training:
            return self.stack.eval()(x)
        layers = self.stack.chain
        logits, self.__dict__["kept"] = dense.forward(layers[0].read(x), self.state, layers)
        return logits

    def loss(self, logits, labels):
        values, d = dense.cross_entropy(logits, labels, self.smoothing)
        return DirectLoss(values, functools.partial(self.backward, d)) if self.training else values

    def backward(self, d):
        dense.backward(d, self.kept, self.grads, self.stack.chain)
        self.stack.flat.grad = self.grad


class DirectLoss:
    """The losses (N,) of a `Direct` step: to `training.fit` a tensor, whose sum goes backward."""

    def __init__(self, values, backward):
        self.values, self.backward = values, backward

    def sum(self):
        return self

    def detach(self):
        return self.values


def clip_entries(stack: Stack, bounds: torch.Tensor) -> None:
    """Limit each entry of each model's gradient to plus or minus its bound (N,)."""
    grad = stack.flat.grad
    limit = bounds.to(grad).unsqueeze(1)
    torch.clamp(grad, -limit, limit, out=grad)


def clip_each(stack: Stack, bounds: torch.Tensor) -> None:
    """Scale each model's whole gradient to a norm of at most its bound (N,); a NaN stays with its own model."""
    grad = stack.flat.grad
    norms = grad.norm(dim=1, keepdim=True)
    grad.mul_((bounds.to(grad).unsqueeze(1) / (norms + 1e-6)).clamp(max=1.0))


def train_stack(recipes: Sequence[Recipe], data, *, device="cpu", dtype=torch.float32, test="", watch=None, stop=None):
    """The same as `[train_one(r, data) for r in recipes]`, for recipes that agree in the fields STACKED_TOGETHER.

    Returns (stack, curves): curves[i] has the rows of run i, as `train_one` gives them; seconds are the share of
    one run. `watch(curves)` is called after every epoch, `stop()` after every step; where `watch` returns False or
    `stop` True, training ends there and the result is None.
    """
    first = recipes[0]
    data = training.prepared(first, data).to(device, dtype)
    stack = Stack([training.fresh_model(r, data, dtype) for r in recipes]).to(device)
    optimizer = StackedOptimizer(stack, recipes)
    per_epoch = training.steps_per_epoch(first, data.n_train)
    model, each_loss, direct = stack, losses.make(first), bool(stack.chain) and first.loss == "cross_entropy"
    if direct:
        model = Direct(stack, first.label_smoothing)
        each_loss = model.loss
    norms, values = (
        torch.tensor([getattr(r, name) or torch.inf for r in recipes], dtype=dtype, device=device)
        for name in ("clip_norm", "clip_value")
    )
    early = [training.EarlyStop(r.patience) if r.patience else None for r in recipes]
    by_value, by_norm = bool(values.isfinite().any()), bool(norms.isfinite().any())
    changing, running = any(r.augment != "none" for r in recipes), [True] * len(recipes)

    def loss(logits, y):
        return each_loss(logits, y.expand(logits.shape[:2]))

    def batches():
        for epoch in range(first.epochs):
            order = [training.batch_order(r.seed, data.n_train, first.batch_size, epoch) for r in recipes]
            for step, i in enumerate(torch.stack(order, 1).to(device), epoch * per_epoch):
                x = data.x_train.index_select(0, i.flatten()).view(*i.shape, *data.x_train.shape[1:])
                if changing:
                    x = torch.stack([training.augmented(r, part, step) for r, part in zip(recipes, x, strict=True)])
                yield x, data.y_train[i]

    def clip():
        if by_value:
            clip_entries(stack, values)
        if by_norm:
            clip_each(stack, norms)

    curves, seen, started = [[] for _ in recipes], [], time.perf_counter()
    loop = training.fit(model, loss, optimizer, batches(), lambda step: optimizer.set_lr(step, per_epoch), clip)
    with torch.inference_mode(direct):  # a gradient that is written out needs no records
        for step, pair in enumerate(loop, 1):
            if stop is not None and stop():
                return None
            seen.append(pair)
            if step % per_epoch:
                continue
            means = [
                *(torch.stack(part).mean(0) for part in zip(*seen, strict=True)),
                *training.evaluate(model, loss, data.x_val, data.y_val),
            ]
            seconds = (time.perf_counter() - started) / len(recipes)
            about = {"epoch": step // per_epoch, "step": step, "seconds": seconds}
            for i, scores in enumerate(torch.stack(means, 1).tolist()):
                if running[i]:
                    curves[i].append(about | dict(zip(SCORES, scores, strict=True)))
                    running[i] = not (early[i] and early[i].see(curves[i][-1], functools.partial(stack.slice_of, i)))
            seen = []
            with torch.inference_mode(False):
                if watch is not None and watch(curves) is False:
                    return None
            if not any(running):
                break
    for i, stop in enumerate(early):
        if stop:
            stack.set_slice(i, stop.settle(curves[i]))
    if test:
        scores = torch.stack(training.evaluate(model, loss, *data.open_test(test)), 1).tolist()
        for curve, row in zip(curves, scores, strict=True):
            curve[-1]["test_loss"], curve[-1]["test_accuracy"] = row
    return stack, curves

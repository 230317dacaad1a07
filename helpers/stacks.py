"""Many models of one architecture as one: the same loop trains them all in one pass.

The definition of a run is `training.train_one`; a stack computes the same thing faster. Model i's loss depends on
slice i of each stacked parameter alone, so the gradient of the summed losses is the stack of the gradients; and every
optimizer in this book works element by element, so one step on the slices [a:b] is b - a ordinary steps.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from helpers import losses, optim, training
from helpers.recipe import Recipe

SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
OPTIMIZER_FIELDS = (
    "optimizer", "lr", "momentum", "beta1", "beta2", "weight_decay", "l1", "l1_step", "schedule", "warmup",
)  # fmt: skip
STACK = 32  # models in one stack: about as many as stay in a CPU's cache


class Stack(nn.Module):
    """N models of one architecture as one module: every parameter and buffer gains a leading axis of length N."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        params, buffers = stack_module_state(list(members))
        self.n, self.names = len(members), {"params": list(params), "buffers": list(buffers)}
        for name, value in params.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value.detach()))
        for name, value in buffers.items():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())
        self.__dict__["skeleton"] = copy.deepcopy(members[0])  # lends its code; not a child

    def _state(self) -> list[dict]:
        return [{k: getattr(self, k.replace(".", "/")) for k in self.names[part]} for part in ("params", "buffers")]

    def forward(self, x):
        """Training: x (N, batch, ...), model i reads x[i]. Evaluation: x (batch, ...), read by all. Gives (N, ...)."""
        self.skeleton.train(self.training)

        def one(params, buffers, x):
            return functional_call(self.skeleton, (params, buffers), (x,))

        return vmap(one, in_dims=(0, 0, 0 if self.training else None))(*self._state(), x)

    def unstack(self, i: int) -> nn.Module:
        """Model i by itself, as an ordinary module with copies of its weights."""
        model = copy.deepcopy(self.skeleton)
        model.load_state_dict(self.slice_of(i))
        return model

    def slice_of(self, i: int) -> dict:
        """A copy of the weights and buffers of model i, named as in an ordinary module."""
        return {k: v[i].detach().clone() for part in self._state() for k, v in part.items()}

    @torch.no_grad()
    def set_slice(self, i: int, state: dict) -> None:
        """Give model i these weights and buffers."""
        for part in self._state():
            for k, v in part.items():
                v[i].copy_(state[k])


class StackedOptimizer:
    """One torch.optim object for each row of neighbours with equal settings, on their slices of the stack."""

    def __init__(self, stack: Stack, recipes: Sequence[Recipe]):
        self.params, self.parts = list(stack.parameters()), []
        kinds = [settings(r) for r in recipes]
        cuts = [i for i in range(len(recipes)) if i == 0 or kinds[i] != kinds[i - 1]] + [len(recipes)]
        for a, b in zip(cuts, cuts[1:], strict=False):
            views = [nn.Parameter(p.detach()[a:b]) for p in self.params]  # the same memory as the stack
            self.parts.append((a, b, views, optim.make(recipes[a].optimizer, views, recipes[a]), recipes[a]))

    def set_lr(self, step: int, per_epoch: int) -> None:
        for *_, optimizer, recipe in self.parts:
            optimizer.param_groups[0]["lr"] = recipe.lr * training.lr_factor_at(recipe, step, per_epoch)

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        # the fused kernels walk memory and do not check that gradient and parameter are laid out alike
        grads = [p.grad if p.grad.stride() == p.stride() else torch.empty_like(p).copy_(p.grad) for p in self.params]
        for a, b, views, optimizer, _ in self.parts:
            for view, grad in zip(views, grads, strict=True):
                view.grad = grad[a:b]
            optimizer.step()


def settings(recipe: Recipe) -> tuple:
    """What an optimizer reads: neighbours in a stack that agree in it share one."""
    return tuple(getattr(recipe, k) for k in OPTIMIZER_FIELDS)


def clip_entries(stack: Stack, bounds: torch.Tensor) -> None:
    """Limit each entry of each model's gradient to plus or minus its bound (N,)."""
    for p in stack.parameters():
        limit = bounds.to(p.grad).view(-1, *[1] * (p.dim() - 1))
        p.grad.copy_(p.grad.clamp(-limit, limit))


def clip_each(stack: Stack, bounds: torch.Tensor) -> None:
    """Scale each model's whole gradient to a norm of at most its bound (N,); a NaN stays with its own model."""
    grads = [p.grad for p in stack.parameters()]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
    factors = (bounds.to(norms) / (norms + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(factors.view(-1, *[1] * (g.dim() - 1)))


def train_stack(recipes: Sequence[Recipe], data, *, device="cpu", dtype=torch.float32, test="", watch=None):
    """The same as `[train_one(r, data) for r in recipes]`, for recipes that agree in the fields STACKED_TOGETHER.

    Returns (stack, curves): curves[i] has the rows of run i, as `train_one` gives them; seconds are the share of
    one run. `watch(curves)` is called after every epoch; when it returns False, training ends there and the result
    is None.
    """
    first = recipes[0]
    data = training.prepared(first, data).to(device, dtype)
    stack = Stack([training.fresh_model(r, data, dtype) for r in recipes]).to(device)
    optimizer = StackedOptimizer(stack, recipes)
    per_epoch = training.steps_per_epoch(first, data.n_train)
    each_loss = vmap(losses.make(first))
    norms, values = (
        torch.tensor([getattr(r, name) or torch.inf for r in recipes], dtype=dtype, device=device)
        for name in ("clip_norm", "clip_value")
    )
    early = [training.EarlyStop(r.patience) if r.patience else None for r in recipes]
    changing, running = any(r.augment != "none" for r in recipes), [True] * len(recipes)

    def loss(logits, y):
        return each_loss(logits, y.expand(logits.shape[:2]))

    def batches():
        for epoch in range(first.epochs):
            order = [training.batch_order(r.seed, data.n_train, first.batch_size, epoch) for r in recipes]
            for step, i in enumerate(torch.stack(order, 1).to(device), epoch * per_epoch):
                x = data.x_train[i]
                if changing:
                    x = torch.stack([training.augmented(r, part, step) for r, part in zip(recipes, x, strict=True)])
                yield x, data.y_train[i]

    def clip():
        if values.isfinite().any():
            clip_entries(stack, values)
        if norms.isfinite().any():
            clip_each(stack, norms)

    curves, seen, started = [[] for _ in recipes], [], time.perf_counter()
    loop = training.fit(stack, loss, optimizer, batches(), lambda step: optimizer.set_lr(step, per_epoch), clip)
    for step, pair in enumerate(loop, 1):
        seen.append(torch.stack(pair))
        if step % per_epoch == 0:
            means = [*torch.stack(seen).mean(0), *training.evaluate(stack, loss, data.x_val, data.y_val)]
            seconds = (time.perf_counter() - started) / len(recipes)
            about = {"epoch": step // per_epoch, "step": step, "seconds": seconds}
            for i, scores in enumerate(torch.stack(means, 1).tolist()):
                if running[i]:
                    curves[i].append(about | dict(zip(SCORES, scores, strict=True)))
                    running[i] = not (early[i] and early[i].see(curves[i][-1], functools.partial(stack.slice_of, i)))
            seen = []
            if watch is not None and watch(curves) is False:
                return None
            if not any(running):
                break
    for i, stop in enumerate(early):
        if stop:
            stack.set_slice(i, stop.settle(curves[i]))
    if test:
        scores = torch.stack(training.evaluate(stack, loss, *data.open_test(test)), 1).tolist()
        for curve, row in zip(curves, scores, strict=True):
            curve[-1]["test_loss"], curve[-1]["test_accuracy"] = row
    return stack, curves

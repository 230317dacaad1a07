"""Which networks are written out: perceptrons with all that this book adds to them, and LeNets that average."""

from __future__ import annotations

from torch import nn

from helpers import blocks, dense, normed, squares

SQUARES, FLATTEN = nn.AvgPool2d(2), nn.Flatten()


def layers(model: nn.Module) -> list:
    """The layers of a model as `helpers.dense` has them; an empty list where one of them is not written out."""
    parts = list(model) if type(model) is nn.Sequential else [model]
    # the first parameter or buffer of a layer says where its own begin, in the model's order
    places = {id(t): i for tensors in (model.parameters(), model.buffers()) for i, t in enumerate(tensors)}
    found = _averaged(parts, places)
    flat = bool(parts) and _same(parts[0], FLATTEN)
    if found and not flat:
        return []
    found += _perceptron(parts[flat:], places)
    # between data and logits: products at both ends
    ends = bool(found) and isinstance(found[0], dense.Full) and type(parts[-1]) is nn.Linear
    return found if ends and None not in found else []


def _averaged(parts: list[nn.Module], places: dict[int, int]) -> list[squares.Averaged]:
    """Takes the convolutions that are averaged in 2x2 squares off the front of `parts`."""
    found = []
    while len(parts) > 3 and type(parts[0]) is nn.Conv2d:
        conv, act, pool = parts[:3]
        plain = (conv.stride, conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
        square = len({*conv.kernel_size}) == len({*conv.padding}) == conv.kernel_size[0] % 2 == 1
        if not (plain and square and conv.bias is not None and type(act) in dense.ACTIVATIONS and _same(pool, SQUARES)):
            break
        found.append(squares.Averaged(places[id(conv.weight)], conv, type(act), found[-1] if found else None))
        del parts[:3]
    return found


def _perceptron(parts: list[nn.Module], places: dict[int, int]) -> list:
    """The layers of a perceptron, each with the activation that follows it; None for one that is not written out."""
    found, parts = [], list(parts)
    while parts:
        layer = parts.pop(0)
        if type(layer) is nn.Sequential:
            parts[:0] = layer
        elif type(layer) is blocks.Residual:
            ways = [_perceptron([way], places) for way in (layer.branch, layer.shortcut)]
            known = type(layer.after) in dense.ACTIVATIONS and None not in ways[0] + ways[1]
            found.append(normed.Added(*ways, type(layer.after)) if known else None)
        elif type(layer) is blocks.Dropout:
            found.append(normed.Dropout(places[id(layer.p)]))
        elif type(layer) in dense.ACTIVATIONS:
            found += [] if type(layer) is nn.Identity else [normed.Act(type(layer))]
        else:
            takes = bool(parts) and type(parts[0]) in dense.ACTIVATIONS
            found.append(_layer(layer, type(parts.pop(0)) if takes else nn.Identity, places))
    return found


def _layer(layer: nn.Module, act: type, places: dict[int, int]):
    """A layer with a weight and a bias, and the activation after it; None for one that is not written out."""
    if getattr(layer, "weight", None) is None or getattr(layer, "bias", None) is None:
        return None
    at = places.pop(id(layer.weight), None)
    if at is None:  # a layer that stands in two places has a gradient from each, and here one would be lost
        return None
    if type(layer) is nn.Linear:
        return dense.Full(at, act)
    if type(layer) is nn.BatchNorm1d and layer.track_running_stats and layer.momentum is not None:
        return normed.Batch(at, places[id(layer.running_mean)], layer, act)
    if type(layer) is nn.GroupNorm or (type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1):
        return normed.Groups(at, layer, act)
    return None


def _same(layer: nn.Module, other: nn.Module) -> bool:
    """Whether two layers without parameters are of one kind and do the same."""
    return type(layer) is type(other) and all(getattr(layer, k) == getattr(other, k) for k in layer.__constants__)

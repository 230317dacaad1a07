"""LeNet-5 as it was in 1998 (LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86(11), section II.B).

Two things in it are gone today: sub-sampling layers with weights of their own, and an output layer that measures the
distance to a drawn picture of each digit. `helpers.models.lenet5` is the form that replaced it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # of the squashing function, appendix A of the paper

# Table I of the paper: which of the six maps of S2 each of the sixteen maps of C3 sees.
TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Pictures of the ten digits, 7 wide and 12 high, drawn after figure 3 of the paper (not copied from it).
BITMAPS = """
..###..  ...#...  .#####.  .#####.  ....##.  #######  ..####.  #######  .#####.  .#####.
.#...#.  ..##...  #.....#  #.....#  ...#.#.  #......  .#.....  #.....#  #.....#  #.....#
#.....#  .#.#...  ......#  ......#  ..#..#.  #......  #......  ......#  #.....#  #.....#
#.....#  ...#...  ......#  ......#  .#...#.  #......  #......  .....#.  #.....#  #.....#
#.....#  ...#...  .....#.  .....#.  #....#.  #.####.  #.####.  .....#.  .#...#.  #.....#
#.....#  ...#...  ....#..  ..###..  #....#.  ##....#  ##....#  ....#..  ..###..  .#...##
#.....#  ...#...  ...#...  .....#.  #######  ......#  #.....#  ....#..  .#...#.  ..###.#
#.....#  ...#...  ..#....  ......#  .....#.  ......#  #.....#  ...#...  #.....#  ......#
#.....#  ...#...  .#.....  ......#  .....#.  ......#  #.....#  ...#...  #.....#  ......#
#.....#  ...#...  #......  ......#  .....#.  #.....#  #.....#  ..#....  #.....#  ......#
.#...#.  ...#...  #......  #.....#  .....#.  .#...#.  .#...#.  ..#....  #.....#  .....#.
..###..  .#####.  #######  .#####.  .....#.  ..###..  ..###..  ..#....  .#####.  .####..
"""


def codes() -> Tensor:
    """The fixed targets of F6: (10, 84), +1 where the picture of the digit has ink and -1 where it has none."""
    rows = [line.split() for line in BITMAPS.split("\n") if line]
    return torch.tensor([[1.0 if c == "#" else -1.0 for row in rows for c in row[digit]] for digit in range(10)])


class Squash(nn.Module):
    """f(a) = 1.7159 tanh(2a/3): f(1) = 1 and f(-1) = -1, so that the targets lie where the function still bends."""

    def forward(self, a: Tensor) -> Tensor:
        return AMPLITUDE * torch.tanh(SLOPE * a)


class SubSampling(nn.Module):
    """The sum of 2x2 values, times a trainable coefficient, plus a trainable bias, one pair for each map.

    The coefficients start at 1/4, which makes the sum a mean.
    """

    def __init__(self, maps: int):
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((maps, 1, 1), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.coefficient * (4 * F.avg_pool2d(x, 2)) + self.bias


class PartialConvolution(nn.Module):
    """A 5x5 convolution in which map k of the output sees the input maps TABLE[k] alone: 60 kernels, 16 biases.

    Maps with equally many inputs share one grouped layer, which holds their kernels. For speed the kernels are laid out
    with zeros where the table has no connection, and one dense convolution is computed.
    """

    def __init__(self):
        super().__init__()
        counts = [len(seen) for seen in TABLE]  # 3, ..., 4, ..., 6: in order
        groups = [(size, counts.count(size)) for size in sorted(set(counts))]
        self.parts = nn.ModuleList(nn.Conv2d(size * maps, maps, 5, groups=maps) for size, maps in groups)
        places = {(k, i): n + 1 for n, (k, i) in enumerate((k, i) for k, seen in enumerate(TABLE) for i in seen)}
        self.places = [places.get((k, i), 0) for k in range(16) for i in range(6)]  # 0 stands for a kernel of zeros

    def forward(self, x: Tensor) -> Tensor:
        kernels = torch.cat([part.weight.reshape(-1, 25) for part in self.parts])
        dense = torch.cat([torch.zeros_like(kernels[:1]), kernels])[self.places].view(16, 6, 5, 5)
        return F.conv2d(x, dense, torch.cat([part.bias for part in self.parts]))


class Distances(nn.Module):
    """Minus the squared Euclidean distance to each class's code (radial basis functions), so that larger is better."""

    def __init__(self, classes: int):
        super().__init__()
        self.register_buffer("codes", codes()[:classes])

    def forward(self, x: Tensor) -> Tensor:
        return -(x.unsqueeze(-2) - self.codes).square().sum(-1)


class Frame(nn.Module):
    """Pad 28x28 images to the 32x32 of the paper with the colour of their border; 32x32 images stay."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[-1] == 32 else F.pad(x, (2, 2, 2, 2), mode="replicate")


def lenet5_1998(shape, classes: int) -> nn.Module:
    """The network of the paper: C1, S2, C3, S4, C5, F6 and the distances, 60,000 trainable parameters.

    Input (n, 1, 28, 28) or (n, 1, 32, 32), output (n, classes): minus the distances, to be trained with
    loss="map_criterion". Its codes are digits, so it has ten classes at most.
    """
    if tuple(shape) not in ((1, 28, 28), (1, 32, 32)):
        raise ValueError(
            f"model='lenet5_1998' needs images of shape (1, 28, 28) or (1, 32, 32), got {tuple(shape)}; "
            f"use model='lenet5' for other images."
        )
    if classes > 10:
        raise ValueError(f"model='lenet5_1998' has codes for ten digits and got {classes} classes; use model='lenet5'.")
    c1 = [nn.Conv2d(1, 6, 5), Squash(), SubSampling(6), Squash()]
    c3 = [PartialConvolution(), Squash(), SubSampling(16), Squash()]
    c5 = [nn.Conv2d(16, 120, 5), Squash(), nn.Flatten()]
    return nn.Sequential(Frame(), *c1, *c3, *c5, nn.Linear(120, 84), Squash(), Distances(classes))

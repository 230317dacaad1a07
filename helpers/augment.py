"""Data augmentation: random changes of a batch of images that keep the label, by kornia.

Every training step draws them anew, so the network never sees the same image twice. The strength 1 is a mild,
usual amount; 0 changes nothing.
"""

from __future__ import annotations

import functools
import threading

import torch
from torch import Tensor

from helpers import checks

# name -> (class of kornia.augmentation, its arguments at strength s). Sizes are shares of the image, angles degrees.
# "brightness" adds one number to all pixels, "contrast" multiplies their distance from black. Bounds are kornia's.
AUGMENTS = {
    "none": None,
    "shift": ("RandomAffine", lambda s: {"degrees": 0.0, "translate": (min(0.12 * s, 1.0),) * 2}),
    "rotate": ("RandomAffine", lambda s: {"degrees": min(15.0 * s, 180.0)}),
    "scale": ("RandomAffine", lambda s: {"degrees": 0.0, "scale": (1 / (1 + 0.2 * s), 1 + 0.2 * s)}),
    "shear": ("RandomAffine", lambda s: {"degrees": 0.0, "shear": min(12.0 * s, 80.0)}),
    "affine": (
        "RandomAffine",
        lambda s: {
            "degrees": min(10.0 * s, 180.0), "translate": (min(0.08 * s, 1.0),) * 2,
            "scale": (1 / (1 + 0.12 * s), 1 + 0.12 * s), "shear": min(6.0 * s, 80.0),
        },
    ),
    "flip": ("RandomHorizontalFlip", lambda s: {"p": min(0.5 * s, 1.0)}),
    "flip_vertical": ("RandomVerticalFlip", lambda s: {"p": min(0.5 * s, 1.0)}),
    "noise": ("RandomGaussianNoise", lambda s: {"std": 0.15 * s}),
    "salt_and_pepper": ("RandomSaltAndPepperNoise", lambda s: {"amount": min(0.08 * s, 1.0)}),
    "blur": ("RandomGaussianBlur", lambda s: {"kernel_size": (3, 3), "sigma": (0.3 * s, 0.9 * s)}),
    "erase": ("RandomErasing", lambda s: {"scale": (min(0.04 * s, 1.0), min(0.2 * s, 1.0)), "ratio": (0.5, 2.0)}),
    "brightness": ("RandomBrightness", lambda s: {"brightness": (max(1 - 0.3 * s, 0.0), min(1 + 0.3 * s, 2.0))}),
    "contrast": ("RandomContrast", lambda s: {"contrast": (max(1 - 0.3 * s, 0.0), 1 + 0.3 * s)}),
}  # fmt: skip
MOST = 100  # the largest strength; far below it nothing of the image is left

DRAWS = threading.Lock()  # torch's global generator is one for all threads: whoever draws from it holds this


@functools.lru_cache(maxsize=32)
def _operation(name: str, strength: float):
    import kornia.augmentation  # a second of import that a recipe without augmentation does not pay

    kind, arguments = AUGMENTS[name]
    return getattr(kornia.augmentation, kind)(**{"p": 1.0, **arguments(strength)})


def augment(name: str, x: Tensor, *, strength: float = 1.0, seed: int = 0) -> Tensor:
    """A changed copy of the images `x` (n, channels, height, width), each with its own draw; same seed, same draws.

    The smallest value of the batch counts as black and the largest as white, so borders fill with background.
    Raises ValueError for an unknown name, a strength below 0, or data that are no images.
    """
    checks.one_of("augment", name, AUGMENTS)
    checks.number("augment_strength", strength, low=0, high=MOST, try_="1.0")
    checks.tensor("x", x), checks.integer("seed", seed, high=2**63 - 1)
    if name == "none" or strength == 0:
        return x
    if x.dim() != 4:
        raise ValueError(
            f"augment={name!r} needs images of shape (channels, height, width), got rows of shape "
            f"{tuple(x.shape[1:])}; leave augment out for such data."
        )
    checks.finite("x", x)
    low, high = x.min(), x.max()
    span = (high - low).clamp(min=1e-12)
    with DRAWS, torch.random.fork_rng(devices=[]), torch.no_grad():  # kornia draws from torch's global generator
        torch.manual_seed(seed)
        return (_operation(name, float(strength))((x - low) / span) * span + low).to(x.dtype)

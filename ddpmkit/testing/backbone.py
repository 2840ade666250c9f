"""What a backbone must do."""

import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.runtime import seeded_build
from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]

_SHAPES = (ImageShape(3, 8, 8), ImageShape(1, 9, 12), ImageShape(3, 36, 36))


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield "shape", "does it take any size from 8 up and keep it?", "Pad inside and crop after.", _shape
    yield "channels", "does it answer in as many channels as it is told?", "Give `out_channels`, not C.", _channels
    yield (
        "independent",
        "is each image of a batch treated as if it were alone?",
        "Normalise over channels and pixels, never over the batch.",
        _independent,
    )
    yield "time", "does the answer depend on t?", "Feed an embedding of t to the blocks.", _time
    yield (
        "labels",
        "does it take labels when there are classes, and heed them if it provides `class-labels`?",
        "Add an embedding of the label to that of t, with a row more for images whose class is not told.",
        _labels,
    )
    yield (
        "gradients",
        "does a gradient reach every weight?",
        "A weight without one is not used: remove it, or use it.",
        _gradients,
    )
    yield (
        "repeatable",
        "do two builds from one seed agree?",
        "Draw initial weights from torch's generator.",
        _repeatable,
    )


def _network(
    subject: Subject, shape: ImageShape, *, num_classes: int = 0, out_channels: int | None = None
) -> nn.Module:
    channels = shape.channels if out_channels is None else out_channels
    with seeded_build(0):
        network: nn.Module = subject.build(image_shape=shape, num_classes=num_classes, out_channels=channels)
    return network.eval()


def _stirred(network: nn.Module) -> nn.Module:
    """Weights that start at zero hide what lies behind them: nudge every one."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=draw))
    return network


def _batch(shape: ImageShape, count: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn((count, *shape), generator=torch.Generator().manual_seed(2))
    return x, torch.tensor([0, 20, 49][:count])


def _shape(subject: Subject) -> None:
    for shape in _SHAPES:
        x, t = _batch(shape)
        out = _network(subject, shape)(x, t, None)
        require(out.shape == x.shape, f"{list(x.shape)} became {list(out.shape)}")


def _channels(subject: Subject) -> None:
    # More for a learned variance; fewer where an estimate of the image is given behind it.
    for seen, told in ((3, 6), (6, 3)):
        shape = _SHAPES[0]._replace(channels=seen)
        x, t = _batch(shape)
        out = _network(subject, shape, out_channels=told)(x, t, None)
        became = f"{list(x.shape)} became {list(out.shape)} at out_channels = {told}"
        require(out.shape == (len(x), told, *x.shape[2:]), became)


def _independent(subject: Subject) -> None:
    network = _stirred(_network(subject, _SHAPES[0]))
    x, t = _batch(_SHAPES[0])
    with torch.no_grad():
        together, alone = network(x, t, None), network(x[:1], t[:1], None)
    error = float((together[:1] - alone).abs().max())
    require(error < 1e-3 * max(1.0, float(alone.abs().max())), f"alone it differs by {error:.3g}")


def _time(subject: Subject) -> None:
    network = _stirred(_network(subject, _SHAPES[0]))
    x, t = _batch(_SHAPES[0], 1)
    with torch.no_grad():
        early, late = network(x, t, None), network(x, t + 40, None)
    require(not torch.allclose(early, late, atol=1e-6), "the same at t = 0 and t = 40")


def _labels(subject: Subject) -> None:
    network = _stirred(_network(subject, _SHAPES[0], num_classes=3))
    x, t = _batch(_SHAPES[0])
    with torch.no_grad():
        first, second, untold = (network(x, t, torch.full((len(x),), label)) for label in (0, 2, 3))
        told_none = network(x, t, None)
    require(first.shape == x.shape, f"{list(x.shape)} became {list(first.shape)}")
    if "class-labels" in subject.registered.component.provides:
        require(not torch.allclose(first, second, atol=1e-6), "the same for classes 0 and 2")
        require(not torch.allclose(first, untold, atol=1e-6), "the same for class 0 and for none, label num_classes")
        require(torch.allclose(untold, told_none, atol=1e-6), "label num_classes and None differ")


def _gradients(subject: Subject) -> None:
    # 36 px: where all is pooled to one pixel, attention has nothing to choose from and its gradient is rightly 0.
    network = _stirred(_network(subject, _SHAPES[-1]))
    x, t = _batch(_SHAPES[-1])
    (network(x, t, None) - x).square().sum().backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    require(not without, f"none at {', '.join(without[:5])}")


def _repeatable(subject: Subject) -> None:
    first, second = (_network(subject, _SHAPES[0]).state_dict() for _ in range(2))
    differing = [name for name, value in first.items() if not torch.equal(value, second[name])]
    require(not differing, f"different: {', '.join(differing[:5])}")

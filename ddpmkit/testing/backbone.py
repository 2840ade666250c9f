"""What a backbone must do."""

import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.runtime import seeded_build
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_SHAPE = ImageShape(3, 8, 8)
_SHAPES = (_SHAPE, ImageShape(1, 16, 16))
_ODD_SHAPES = (ImageShape(1, 9, 12), ImageShape(3, 11, 13), ImageShape(3, 36, 36))
_CLASSES = 3


def use(subject: Subject) -> Results:
    """Ask it about a batch."""
    network = _network(subject)
    return {**network.state_dict(), "answer": _answer(network, *_batch())}


def _network(
    subject: Subject,
    shape: ImageShape = _SHAPE,
    *,
    num_classes: int = 0,
    out_channels: int | None = None,
    seed: int = 0,
) -> nn.Module:
    channels = shape.channels if out_channels is None else out_channels
    with seeded_build(seed):
        network: nn.Module = subject.build(image_shape=shape, num_classes=num_classes, out_channels=channels)
    return network.eval()


def _stirred(network: nn.Module) -> nn.Module:
    """Weights that start at zero hide what lies behind them: nudge every one."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=draw))
    return network


def _batch(shape: ImageShape = _SHAPE, count: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn((count, *shape), generator=torch.Generator().manual_seed(2))
    return x, torch.tensor([0, 20, 49][:count])


def _labels(label: int, count: int = 3) -> Tensor:
    return torch.full((count,), label, dtype=torch.int64)


def _heeds_labels(subject: Subject) -> bool:
    return "class-labels" in subject.registered.component.provides


def _furthest(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def _answer(network: nn.Module, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    """Of copies: a network that changes its input is told so by one check, and not by all."""
    with torch.no_grad():
        answer: Tensor = network(x.clone(), t.clone(), label)
    return answer


def _require_answers(network: nn.Module, shape: ImageShape, label: Tensor | None = None) -> None:
    x, t = _batch(shape)
    answer = _answer(network, x, t, label)
    require(answer.shape == x.shape, f"{list(x.shape)} became {list(answer.shape)}")
    infinite = int((~answer.isfinite()).sum())
    require(infinite == 0, f"{infinite} of {answer.numel()} numbers are not finite, from {list(x.shape)}")


def _shape(subject: Subject) -> None:
    for shape in _SHAPES:
        _require_answers(_network(subject, shape), shape)


def _odd_sizes(subject: Subject) -> None:
    for shape in _ODD_SHAPES:
        _require_answers(_network(subject, shape), shape)


def _channels(subject: Subject) -> None:
    # More for a learned variance; fewer where an estimate of the image is given behind it.
    for seen, told in ((3, 6), (6, 3)):
        shape = _SHAPE._replace(channels=seen)
        x, t = _batch(shape)
        out = _answer(_network(subject, shape, out_channels=told), x, t)
        became = f"{list(x.shape)} became {list(out.shape)} at out_channels = {told}"
        require(out.shape == (len(x), told, *x.shape[2:]), became)


def _independent(subject: Subject) -> None:
    network, (x, t) = _stirred(_network(subject)), _batch()
    _require_alike(_answer(network, x, t)[:1], _answer(network, x[:1], t[:1]), "alone")
    network.train()
    among_others = torch.cat([x[:1], 3 * x[1:] + 1])
    answers = []
    for batch in (x, among_others):
        with seeded_build(0):  # equal dropout
            answers.append(_answer(network, batch, t)[:1])
    _require_alike(answers[0], answers[1], "beside other images, in training")


def _require_alike(first: Tensor, second: Tensor, where: str) -> None:
    error = _furthest(first, second)
    require(
        error < 1e-3 * max(1.0, float(first.abs().max())), f"image 0 of 3 is answered otherwise by {error:.3g} {where}"
    )


def _time(subject: Subject) -> None:
    network, (x, t) = _stirred(_network(subject)), _batch(count=1)
    difference = _furthest(_answer(network, x, t), _answer(network, x, t + 40))
    require(difference > 1e-6, f"t = 0 and t = 40 differ by {difference:.3g}")


def _labels_taken(subject: Subject) -> None:
    network = _network(subject, num_classes=_CLASSES)
    for label in (None, *map(_labels, range(_CLASSES + 1))):
        _require_answers(network, _SHAPE, label)


def _labels_matter(subject: Subject) -> None:
    subject.require_provided("class-labels")
    network, (x, t) = _stirred(_network(subject, num_classes=_CLASSES)), _batch()
    difference = _furthest(*(_answer(network, x, t, _labels(label)) for label in (0, _CLASSES - 1)))
    require(difference > 1e-6, f"labels 0 and {_CLASSES - 1} of {_CLASSES} classes differ by {difference:.3g}")


def _label_not_told(subject: Subject) -> None:
    subject.require_provided("class-labels")
    network, (x, t) = _stirred(_network(subject, num_classes=_CLASSES)), _batch()
    first, last, untold, none = (
        _answer(network, x, t, label) for label in (_labels(0), _labels(_CLASSES - 1), _labels(_CLASSES), None)
    )
    difference = _furthest(untold, none)
    require(difference < 1e-5, f"label {_CLASSES} of {_CLASSES} classes and None differ by {difference:.3g}")
    # Labels that do not matter at all are another check's.
    alike = [name for name, told in ((0, first), (_CLASSES - 1, last)) if _furthest(untold, told) < 1e-6]
    require(not alike or _furthest(first, last) < 1e-6, f"label {_CLASSES} is answered as class {alike} is")


def _gradients(subject: Subject) -> None:
    # 36 px: where all is pooled to one pixel, attention has nothing to choose from and its gradient is rightly 0.
    shape = _ODD_SHAPES[-1]
    network = _stirred(_network(subject, shape, num_classes=_CLASSES if _heeds_labels(subject) else 0))
    x, t = _batch(shape)
    (network(x, t, torch.arange(3) if _heeds_labels(subject) else None) - x).square().sum().backward()
    weights = dict(network.named_parameters())
    without = [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()]
    require(not without, f"{len(without)} of {len(weights)} weights have none: {', '.join(without[:5])}")


def _seed(subject: Subject) -> None:
    ends = []
    for seed in (0, 1):
        with seeded_build(seed):
            subject.build(image_shape=_SHAPE, num_classes=0, out_channels=_SHAPE.channels)
            ends.append(torch.get_rng_state())
    require(not torch.equal(*ends), "built at seeds 0 and 1, it leaves torch's generator in one and the same state")


def _state(subject: Subject) -> None:
    saved, other, batch = _network(subject, seed=0), _network(subject, seed=1), _batch()
    other.load_state_dict(saved.state_dict())
    error = _furthest(_answer(_stirred(saved), *batch), _answer(_stirred(other), *batch))
    require(error < 1e-6, f"with the weights of another seed's build it differs from that one by {error:.3g}")


def _input_kept(subject: Subject) -> None:
    network = _stirred(_network(subject))
    (x, t), before = _batch(), _batch()
    with torch.no_grad():
        network(x, t, None)
    require(torch.equal(x, before[0]), f"x was changed by up to {_furthest(x, before[0]):.3g}")
    require(torch.equal(t, before[1]), f"t was {before[1].tolist()} and is {t.tolist()}")


RULES = (
    Rule(
        "backbone.shape",
        "does it give [B, C, H, W] for [B, C, H, W], in finite numbers?",
        "Build it for `image_shape` (channels, height, width); a grayscale picture has one channel.",
        _shape,
    ),
    Rule(
        "backbone.odd-sizes",
        "does it take any size from 8 up, and keep it?",
        "Sizes that do not halve evenly come back too large or too small, and skips do not fit: pad to a multiple of "
        "the stride inside, and crop after.",
        _odd_sizes,
    ),
    Rule(
        "backbone.channels",
        "does it answer in as many channels as it is told?",
        "The first layer takes `image_shape.channels` and the last gives `out_channels`: twice the image's where the "
        "loss learns the variance too, half of what is seen where the network is given its own estimate.",
        _channels,
    ),
    Rule(
        "backbone.independent",
        "is each image of a batch treated as if it were alone?",
        "Normalise over channels and pixels (GroupNorm, LayerNorm), never over the batch (BatchNorm); look for a mean "
        "or a reshape that takes in dimension 0.",
        _independent,
    ),
    Rule(
        "backbone.time",
        "does the answer depend on t?",
        "Feed an embedding of t to the blocks. An embedding that is only added before a normalisation may be taken "
        "out again.",
        _time,
    ),
    Rule(
        "backbone.labels-taken",
        "does it take labels where there are classes: 0 .. num_classes, and None?",
        "The last label, num_classes itself, says that the class is not told: a table of labels has num_classes + 1 "
        "rows. A network that does not heed labels takes them all the same.",
        _labels_taken,
    ),
    Rule(
        "backbone.labels",
        "do labels matter, where it provides `class-labels`?",
        "Add an embedding of the label to that of t; or leave `class-labels` out of `provides`.",
        _labels_matter,
    ),
    Rule(
        "backbone.label-not-told",
        "do label num_classes and None mean the same, and no class, where it provides `class-labels`?",
        "Where label is None, put num_classes in its place, and give that a row of its own: guidance compares with it.",
        _label_not_told,
    ),
    Rule(
        "backbone.gradients",
        "does a gradient reach every weight?",
        "A weight without one is not used: remove it, or use it. Look for `detach`, `no_grad`, a factor of 0, and "
        "layers that are built and never called.",
        _gradients,
    ),
    Rule(
        "backbone.seed",
        "are initial weights left to the seed of the recipe?",
        "It seeds torch's generator itself, so `train.seed` changes nothing: take `torch.manual_seed` out.",
        _seed,
    ),
    Rule(
        "backbone.state",
        "is all that its answer depends on in its state_dict?",
        "A checkpoint holds the state_dict and nothing else. Tensors drawn when it is built must be `nn.Parameter`, "
        "or registered with `register_buffer` (not with persistent=False).",
        _state,
    ),
    Rule(
        "backbone.input-kept",
        "does it leave its input as it was?",
        "A sampler goes on with the x that it asked about. Look for `+=`, `mul_` and the like on x or t, and for "
        "nn.ReLU(inplace=True) or nn.SiLU(inplace=True) as the first layer.",
        _input_kept,
    ),
)

"""The checks of a backbone."""

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
    """Run the network on a batch."""
    network = _network(subject)
    return {**network.state_dict(), "output": _output(network, *_batch())}


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


def _perturbed(network: nn.Module) -> nn.Module:
    """Add noise to all weights: a weight that is initialized to zero hides what the layers before it do."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return network


def _batch(shape: ImageShape = _SHAPE, count: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn((count, *shape), generator=torch.Generator().manual_seed(2))
    return x, torch.tensor([0, 20, 49][:count])


def _labels(label: int, count: int = 3) -> Tensor:
    return torch.full((count,), label, dtype=torch.int64)


def _is_conditional(subject: Subject) -> bool:
    return "class-labels" in subject.registered.component.provides


def _max_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def _output(network: nn.Module, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    """Run the network on copies, so that only one check fails for a network that modifies its input."""
    with torch.no_grad():
        output: Tensor = network(x.clone(), t.clone(), label)
    return output


def _require_valid_output(network: nn.Module, shape: ImageShape, label: Tensor | None = None) -> None:
    x, t = _batch(shape)
    output = _output(network, x, t, label)
    require(output.shape == x.shape, f"input {list(x.shape)} gives output {list(output.shape)}")
    not_finite = int((~output.isfinite()).sum())
    require(
        not_finite == 0, f"{not_finite} of {output.numel()} output values are NaN or infinity for input {list(x.shape)}"
    )


def _shape(subject: Subject) -> None:
    for shape in _SHAPES:
        _require_valid_output(_network(subject, shape), shape)


def _odd_sizes(subject: Subject) -> None:
    for shape in _ODD_SHAPES:
        _require_valid_output(_network(subject, shape), shape)


def _channels(subject: Subject) -> None:
    # More output channels for a learned variance, more input channels for self-conditioning.
    for in_channels, out_channels in ((3, 6), (6, 3)):
        shape = _SHAPE._replace(channels=in_channels)
        x, t = _batch(shape)
        output = _output(_network(subject, shape, out_channels=out_channels), x, t)
        found = f"input {list(x.shape)} gives output {list(output.shape)} with out_channels = {out_channels}"
        require(output.shape == (len(x), out_channels, *x.shape[2:]), found)


def _independent(subject: Subject) -> None:
    network, (x, t) = _perturbed(_network(subject)), _batch()
    _require_equal(_output(network, x, t)[:1], _output(network, x[:1], t[:1]), "alone")
    network.train()
    other_images = torch.cat([x[:1], 3 * x[1:] + 1])
    outputs = []
    for batch in (x, other_images):
        with seeded_build(0):  # the same dropout
            outputs.append(_output(network, batch, t)[:1])
    _require_equal(outputs[0], outputs[1], "next to other images, in training mode")


def _require_equal(first: Tensor, second: Tensor, where: str) -> None:
    error = _max_difference(first, second)
    require(
        error < 1e-3 * max(1.0, float(first.abs().max())),
        f"the output for image 0 of a batch of 3 differs by {error:.3g} from the output {where}",
    )


def _time(subject: Subject) -> None:
    network, (x, t) = _perturbed(_network(subject)), _batch(count=1)
    difference = _max_difference(_output(network, x, t), _output(network, x, t + 40))
    require(difference > 1e-6, f"the outputs at t = 0 and t = 40 differ by {difference:.3g}")


def _labels_taken(subject: Subject) -> None:
    network = _network(subject, num_classes=_CLASSES)
    for label in (None, *map(_labels, range(_CLASSES + 1))):
        _require_valid_output(network, _SHAPE, label)


def _labels_matter(subject: Subject) -> None:
    subject.require_provided("class-labels")
    network, (x, t) = _perturbed(_network(subject, num_classes=_CLASSES)), _batch()
    difference = _max_difference(*(_output(network, x, t, _labels(label)) for label in (0, _CLASSES - 1)))
    require(
        difference > 1e-6,
        f"the outputs for labels 0 and {_CLASSES - 1} of {_CLASSES} classes differ by {difference:.3g}",
    )


def _null_label(subject: Subject) -> None:
    subject.require_provided("class-labels")
    network, (x, t) = _perturbed(_network(subject, num_classes=_CLASSES)), _batch()
    first, last, null, none = (
        _output(network, x, t, label) for label in (_labels(0), _labels(_CLASSES - 1), _labels(_CLASSES), None)
    )
    difference = _max_difference(null, none)
    require(
        difference < 1e-5,
        f"the outputs for label {_CLASSES} and for None differ by {difference:.3g} with num_classes = {_CLASSES}",
    )
    # A network that ignores all labels belongs to another check.
    equal = [name for name, output in ((0, first), (_CLASSES - 1, last)) if _max_difference(null, output) < 1e-6]
    require(
        not equal or _max_difference(first, last) < 1e-6,
        f"the outputs for label {_CLASSES} and for class {equal} are equal with num_classes = {_CLASSES}",
    )


def _gradients(subject: Subject) -> None:
    # 36 px: if all pixels are pooled to one, attention has a single key, and its gradient is rightly 0.
    shape = _ODD_SHAPES[-1]
    conditional = _is_conditional(subject)
    network = _perturbed(_network(subject, shape, num_classes=_CLASSES if conditional else 0))
    x, t = _batch(shape)
    (network(x, t, torch.arange(3) if conditional else None) - x).square().sum().backward()
    weights = dict(network.named_parameters())
    without = [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()]
    require(not without, f"{len(without)} of {len(weights)} weights have no gradient: {', '.join(without[:5])}")


def _seed(subject: Subject) -> None:
    states = []
    for seed in (0, 1):
        with seeded_build(seed):
            subject.build(image_shape=_SHAPE, num_classes=0, out_channels=_SHAPE.channels)
            states.append(torch.get_rng_state())
    require(not torch.equal(*states), "torch's random state after the build is the same for seeds 0 and 1")


def _state(subject: Subject) -> None:
    saved, other, batch = _network(subject, seed=0), _network(subject, seed=1), _batch()
    other.load_state_dict(saved.state_dict())
    error = _max_difference(_output(_perturbed(saved), *batch), _output(_perturbed(other), *batch))
    require(
        error < 1e-6, f"two builds with the same state_dict and different seeds give outputs that differ by {error:.3g}"
    )


def _input_kept(subject: Subject) -> None:
    network = _perturbed(_network(subject))
    (x, t), before = _batch(), _batch()
    with torch.no_grad():
        network(x, t, None)
    require(torch.equal(x, before[0]), f"it changed x by up to {_max_difference(x, before[0]):.3g}")
    require(torch.equal(t, before[1]), f"it changed t from {before[1].tolist()} to {t.tolist()}")


RULES = (
    Rule(
        "backbone.shape",
        "the output for [B, C, H, W] has the same shape and is finite",
        "Build the network for `image_shape` (channels, height, width). A grayscale image has one channel.",
        _shape,
    ),
    Rule(
        "backbone.odd-sizes",
        "every height and width of 8 or more works, and the output has the same size",
        "If a size cannot be halved evenly, upsampling returns another size and skip connections do not fit: pad to "
        "a multiple of the stride inside the network and crop the output (`ddpmkit.nn.pad_to_multiple`).",
        _odd_sizes,
    ),
    Rule(
        "backbone.channels",
        "the output has `out_channels` channels",
        "The first layer takes `image_shape.channels` and the last returns `out_channels`. The output has twice the "
        "channels if the loss learns the variance; the input has twice the channels with self-conditioning.",
        _channels,
    ),
    Rule(
        "backbone.independent",
        "the output for an image does not depend on the other images of the batch",
        "Normalize over channels and pixels (GroupNorm, LayerNorm), never over the batch (BatchNorm). Look for a "
        "mean or a reshape that includes dimension 0.",
        _independent,
    ),
    Rule(
        "backbone.time",
        "the output depends on t",
        "Pass an embedding of t to the blocks. An embedding that is only added before a normalization can be removed "
        "by that normalization.",
        _time,
    ),
    Rule(
        "backbone.labels-taken",
        "the labels 0 .. num_classes and None are accepted if there are classes",
        "The label num_classes is the null label, so an embedding table needs num_classes + 1 rows. An unconditional "
        "network must accept labels too, and ignore them.",
        _labels_taken,
    ),
    Rule(
        "backbone.labels",
        "the output depends on the label (only if the backbone provides `class-labels`)",
        "Add an embedding of the label to the embedding of t; or remove `class-labels` from `provides`.",
        _labels_matter,
    ),
    Rule(
        "backbone.label-not-told",
        "label num_classes and None both mean unconditional (only if the backbone provides `class-labels`)",
        "Replace None with the label num_classes, and give that label its own row in the embedding table. "
        "Classifier-free guidance compares with its output.",
        _null_label,
    ),
    Rule(
        "backbone.gradients",
        "every weight receives a gradient",
        "A weight without a gradient is not used: use it or remove it. Look for `detach`, `no_grad`, a factor of 0, "
        "and layers that are built and never called.",
        _gradients,
    ),
    Rule(
        "backbone.seed",
        "the initial weights depend on the seed of the recipe",
        "The backbone seeds torch's generator itself, so `train.seed` has no effect: remove `torch.manual_seed`.",
        _seed,
    ),
    Rule(
        "backbone.state",
        "the state_dict contains everything that the output depends on",
        "A checkpoint stores only the state_dict. A random tensor that is created in the constructor must be an "
        "`nn.Parameter`, or registered with `register_buffer` (not with persistent=False).",
        _state,
    ),
    Rule(
        "backbone.input-kept",
        "the inputs are not modified",
        "A sampler reuses x after the call. Look for in-place operations such as `+=` and `mul_` on x or t, and for "
        "nn.ReLU(inplace=True) or nn.SiLU(inplace=True) as the first layer.",
        _input_kept,
    ),
)

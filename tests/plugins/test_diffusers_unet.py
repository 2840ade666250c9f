import importlib.util
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from pydantic import ValidationError
from torch import nn

from ddpmkit.contracts import ImageShape
from ddpmkit.errors import ComponentUnavailable
from ddpmkit.plugin.discovery import discover
from ddpmkit_plugins.diffusers_unet import DiffusersUnetConfig
from ddpmkit_plugins.diffusers_unet.unet import DiffusersUnet

SMALL = DiffusersUnetConfig(
    block_out_channels=(16, 32, 32), layers_per_block=1, attention_levels=(1,), attention_head_dim=16
)
SHAPE = ImageShape(3, 16, 16)


def unet(config: DiffusersUnetConfig = SMALL, shape: ImageShape = SHAPE, num_classes: int = 0) -> DiffusersUnet:
    torch.manual_seed(0)
    return DiffusersUnet(config, image_shape=shape, num_classes=num_classes, out_channels=shape.channels)


def with_nonzero_output(network: DiffusersUnet) -> DiffusersUnet:
    nn.init.normal_(network.unet.conv_out.weight, std=0.1)
    return network


def plain(num_class_embeds: int | None = None) -> UNet2DModel:
    """The model of `SMALL` in diffusers."""
    torch.manual_seed(1)
    return UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=16,
        norm_num_groups=8,
        num_class_embeds=num_class_embeds,
    )


def test_with_the_same_weights_it_equals_diffusers() -> None:
    theirs, ours = plain(), unet()
    ours.unet.load_state_dict(theirs.state_dict())
    x, t = torch.randn(2, *SHAPE), torch.tensor([3, 40])
    assert torch.equal(ours(x, t, None), theirs(x, t).sample)
    padded = torch.zeros(2, 3, 12, 16)
    padded[:, :, :9, :14] = x[:, :, :9, :14]
    assert torch.equal(ours(x[:, :, :9, :14], t, None), theirs(padded, t).sample[:, :, :9, :14])


def test_with_the_same_weights_it_equals_diffusers_with_labels_and_without() -> None:
    theirs, ours = plain(num_class_embeds=4), unet(num_classes=3)
    ours.unet.load_state_dict(theirs.state_dict())
    x, t = torch.randn(2, *SHAPE), torch.tensor([3, 40])
    for label in ([0, 2], [3, 3]):
        assert torch.equal(ours(x, t, torch.tensor(label)), theirs(x, t, torch.tensor(label)).sample)
    assert torch.equal(ours(x, t, None), theirs(x, t, torch.tensor([3, 3])).sample)
    assert not torch.allclose(ours(x, t, None), ours(x, t, torch.tensor([2, 2])))


def test_its_model_can_be_saved_and_loaded_with_diffusers(tmp_path: Path) -> None:
    ours = with_nonzero_output(unet())
    ours.unet.save_pretrained(tmp_path)
    theirs = UNet2DModel.from_pretrained(tmp_path)
    x, t = torch.randn(2, *SHAPE), torch.tensor([3, 40])
    torch.testing.assert_close(theirs.eval()(x, t).sample, ours.eval()(x, t))


def test_every_key_has_an_effect_on_the_model() -> None:
    config = DiffusersUnetConfig(
        block_out_channels=(24, 48),
        layers_per_block=3,
        attention_levels=(0,),
        attention_head_dim=12,
        norm_num_groups=6,
        dropout=0.25,
    )
    model = unet(config).unet
    assert [len(block.resnets) for block in model.down_blocks] == [3, 3]
    assert [hasattr(block, "attentions") for block in model.down_blocks] == [True, False]
    assert [hasattr(block, "attentions") for block in model.up_blocks] == [False, True]
    assert [block.resnets[0].out_channels for block in model.down_blocks] == [24, 48]
    assert model.down_blocks[0].attentions[0].heads == 2
    assert {module.num_groups for module in model.modules() if isinstance(module, nn.GroupNorm)} == {6}
    assert {module.p for module in model.down_blocks.modules() if isinstance(module, nn.Dropout)} >= {0.25}


def test_without_diffusers_the_error_names_the_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else find_spec(name))
    entry = discover(third_party=False).registry().get("backbone", "diffusers-unet")
    with pytest.raises(ComponentUnavailable, match="needs the module diffusers"):
        entry.build(DiffusersUnetConfig(), image_shape=SHAPE, num_classes=0, out_channels=3)


@pytest.mark.parametrize(
    "keys",
    [
        {"block_out_channels": ()},
        {"block_out_channels": (8, 0)},
        {"block_out_channels": (9, 32), "norm_num_groups": 1},
        {"block_out_channels": (32, 100)},
        {"attention_levels": (3,)},
        {"attention_head_dim": 24},
        {"norm_num_groups": 5},
        {"norm_num_groups": 32},
    ],
)
def test_an_invalid_config_is_rejected(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DiffusersUnetConfig(**keys)  # type: ignore[arg-type]

"""The transformer of Peebles & Xie (2023), "Scalable Diffusion Models with Transformers".

https://arxiv.org/abs/2212.09748, section 3, on pixels instead of latents. Weights are initialized as in the code of the
paper: Xavier uniform, normal with standard deviation 0.02 in the embeddings, 0 in the modulations and the last layer.
"""

from einops import rearrange
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.nn import LabelEmbedding, pad_to_multiple
from ddpmkit_plugins.dit import DitConfig
from ddpmkit_plugins.dit.blocks import Block, FinalLayer, Modulation
from ddpmkit_plugins.dit.embeddings import TimeEmbedding, grid_embedding


class Dit(nn.Module):
    """The network of the backbone `dit`. Any height and width works: it pads its input to full patches."""

    position: Tensor

    def __init__(self, config: DitConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int) -> None:
        """The weights depend on the channels of `image_shape`, not on its size. `num_classes` 0: unconditional."""
        super().__init__()
        self.dim, self.patch_size = config.dim, config.patch_size
        self.patches = nn.Conv2d(image_shape.channels, config.dim, config.patch_size, stride=config.patch_size)
        self.time = TimeEmbedding(config.dim)
        self.label = LabelEmbedding(num_classes, config.dim) if num_classes else None
        self.blocks = nn.ModuleList(
            Block(config.dim, heads=config.heads, mlp_ratio=config.mlp_ratio) for _ in range(config.depth)
        )
        self.final = FinalLayer(config.dim, config.patch_size**2 * out_channels)
        self._initialize_weights()

        # The embedding for the size of the training images is stored. For another size it is computed when needed.
        self.grid = (-(-image_shape.height // self.patch_size), -(-image_shape.width // self.patch_size))
        self.register_buffer("position", grid_embedding(*self.grid, self.dim).float(), persistent=False)

    def outer_layers(self) -> tuple[nn.Module, ...]:
        """The first and the last layer."""
        return (self.patches, self.final.linear)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], t int64 [B], label int64 [B] or None -> [B, out_channels, H, W].

        Label `num_classes` is the null label; None means the null label for all images.
        """
        height, width = x.shape[2:]
        tokens = self.patches(pad_to_multiple(x, self.patch_size))
        rows, columns = tokens.shape[2:]
        condition = self.time(t)
        if self.label is not None:
            condition = condition + self.label(label)

        h = rearrange(tokens, "b c y x -> b (y x) c") + self._position(rows, columns)
        for block in self.blocks:
            h = block(h, condition)
        h = self.final(h, condition)
        p = self.patch_size
        out: Tensor = rearrange(h, "b (rows columns) (y x c) -> b c (rows y) (columns x)", rows=rows, y=p, x=p)
        return out[:, :, :height, :width]

    def _position(self, rows: int, columns: int) -> Tensor:
        if (rows, columns) == self.grid:
            return self.position
        return grid_embedding(rows, columns, self.dim).to(self.position)

    def _initialize_weights(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        # As a linear map from a patch to a token: each filter is a row.
        nn.init.xavier_uniform_(self.patches.weight.flatten(1))
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]  # the convolution was built with a bias
        for layer in self.time.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)
        for layer in self.modules():
            if isinstance(layer, Modulation):
                nn.init.zeros_(layer.linear.weight)
        nn.init.zeros_(self.final.linear.weight)

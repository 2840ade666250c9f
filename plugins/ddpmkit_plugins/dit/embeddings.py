"""Embeddings of the position of a token, and of the timestep."""

import torch
from torch import Tensor, nn

from ddpmkit.nn import SinusoidalEmbedding


def grid_embedding(rows: int, columns: int, dim: int) -> Tensor:
    """Sinusoidal embedding of positions in a grid, float64 [rows * columns, dim], row by row.

    The first half of the channels embeds the column, the second half the row: Vaswani et al. (2017), section 3.5, along
    both axes. Each half is the sine, then the cosine, of the coordinate at `dim / 4` frequencies. The distance between
    neighbouring tokens is 1 in every grid.
    """
    quarter = dim // 4
    frequencies = 10_000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)

    def along(count: int) -> Tensor:
        angle = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    across = along(columns).expand(rows, columns, -1)
    down = along(rows)[:, None].expand(rows, columns, -1)
    return torch.cat([across, down], dim=2).flatten(0, 1)


class TimeEmbedding(nn.Module):
    """256 cosines and sines of t, then two layers: Peebles & Xie (2023), section 4, "Training"."""

    def __init__(self, dim: int, channels: int = 256) -> None:
        """`dim`: channels of the output. `channels`: number of cosines and sines, even."""
        super().__init__()
        self.sinusoids = SinusoidalEmbedding(channels)
        self.layers = nn.Sequential(nn.Linear(channels, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """t int64 [B] -> float [B, dim]."""
        out: Tensor = self.layers(self.sinusoids(t))
        return out

"""Where a token lies, and when: sines and cosines, nothing learned."""

import torch
from torch import Tensor, nn

from ddpmkit.nn import SinusoidalEmbedding


def grid_embedding(rows: int, columns: int, dim: int) -> Tensor:
    """Float64 [rows * columns, dim], row by row: half of the channels for the column, half for the row.

    Each half is the sine, then the cosine, of the coordinate at `dim / 4` frequencies: Vaswani et al. (2017), section
    3.5, along both axes. Neighbouring tokens are one apart, whatever the size of the grid.
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
    """t as 256 sines and cosines, then two layers: Peebles & Xie (2023), section 4, "Training"."""

    def __init__(self, dim: int, channels: int = 256) -> None:
        """`dim`: channels of the answer; `channels`: even."""
        super().__init__()
        self.sinusoids = SinusoidalEmbedding(channels)
        self.layers = nn.Sequential(nn.Linear(channels, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """int64 [B] -> float [B, dim]."""
        out: Tensor = self.layers(self.sinusoids(t))
        return out

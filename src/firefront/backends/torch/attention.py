"""Attention over a tree: every token sees itself and what is before it on the way to the root.

Owns how segments are batched: those of like size together, padded to the largest of them, so that
the mask of a batch has no more than the pairs that may see each other and some padding.
Legend: T tokens, N query heads, K kv heads, G = N / K query heads of one kv head, H head dim,
n segments of a batch, q their new tokens, l keys.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from firefront.backends.torch.functions import Attend
from firefront.backends.torch.tree import Tree

MAX_PADDING = 1.5  # pairs of query and key in a batch, over those of its segments
LONG_LEN = 512  # from here on a plain causal batch is not worth a mask
MAX_SCORES = 4 << 20  # of a batch that may be kept for backward; of more they are computed again


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Segments that are attended together. `queries` (n, q) and `keys` (n, l): places in the tree,
    padded with a segment's last one. `lens` (n, 2): how many of them are real."""

    queries: Tensor
    keys: Tensor
    lens: tuple[tuple[int, int], ...]
    masks: dict[tuple[int | None, int, torch.dtype], Tensor] = field(default_factory=dict)

    @property
    def is_causal(self) -> bool:
        """Whether every query's keys are just those up to its own index."""
        return all(num_queries == num_keys for num_queries, num_keys in self.lens)

    def mask(self, window: int | None, group: int, dtype: torch.dtype) -> Tensor:
        """(n, 1, group * q, l): 0 where a query sees a key, else -inf; made once.

        Padded queries see what their segment's last token sees, so that no row is empty.
        """
        key = (window, group, dtype)
        if key not in self.masks:
            num_queries, num_keys = self.queries.shape[1], self.keys.shape[1]
            lens = torch.tensor(self.lens)
            own_n1, all_n1 = lens[:, :1], lens[:, 1:]
            position_nq = torch.minimum(all_n1 - own_n1 + torch.arange(num_queries), all_n1 - 1)
            ahead_nql = torch.arange(num_keys) - position_nq[:, :, None]
            seen = ahead_nql <= 0
            if window is not None:
                seen &= ahead_nql > -window
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -math.inf)
            self.masks[key] = mask.repeat(1, group, 1)[:, None]
        return self.masks[key]


class Layout:
    """The batches of one tree, and where their outputs belong; the same for all layers."""

    def __init__(self, tree: Tree) -> None:
        paths = [tree.path(i) for i in range(len(tree.segments))]
        sizes = [
            (segment.length, len(path)) for segment, path in zip(tree.segments, paths, strict=True)
        ]
        self.batches: list[Batch] = []
        back_T = np.empty(len(tree.token_ids), np.int64)
        num_rows = 0
        for members in _batched(sizes):
            most_queries = max(sizes[i][0] for i in members)
            most_keys = max(sizes[i][1] for i in members)
            queries = np.empty((len(members), most_queries), np.int64)
            keys = np.empty((len(members), most_keys), np.int64)
            for row, i in enumerate(members):
                segment = tree.segments[i]
                own = np.arange(segment.start, segment.stop)
                queries[row] = np.pad(own, (0, most_queries - len(own)), mode="edge")
                keys[row] = np.pad(paths[i], (0, most_keys - len(paths[i])), mode="edge")
                first = num_rows + row * most_queries
                back_T[own] = np.arange(first, first + len(own))
            num_rows += queries.size
            lens = tuple(sizes[i] for i in members)
            self.batches.append(Batch(torch.from_numpy(queries), torch.from_numpy(keys), lens))
        self._back_T = torch.from_numpy(back_T)

    def attend(
        self,
        q_TNH: Tensor,
        k_TKH: Tensor,
        v_TKH: Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """x_T(NH)."""
        rows = [
            _attend(batch, q_TNH, k_TKH, v_TKH, scale, window, softcap) for batch in self.batches
        ]
        return torch.cat(rows).index_select(0, self._back_T)


def _batched(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Segments by (queries, keys), the like ones together."""
    batches: list[list[int]] = []
    area = most_queries = 0
    for i in sorted(range(len(sizes)), key=lambda i: (sizes[i][1], sizes[i][0])):
        num_queries, num_keys = sizes[i]
        area += num_queries * num_keys
        most_queries = max(most_queries, num_queries)
        padded = (len(batches[-1]) + 1) * most_queries * num_keys if batches else math.inf
        if padded <= MAX_PADDING * area:
            batches[-1].append(i)
        else:
            batches.append([i])
            area, most_queries = num_queries * num_keys, num_queries
    return batches


def _attend(
    batch: Batch,
    q_TNH: Tensor,
    k_TKH: Tensor,
    v_TKH: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """The rows of one batch, (n * q, N * H). The queries of a kv head's group are stacked, so that
    its keys are read once for all of them."""
    (n, num_queries), num_keys = batch.queries.shape, batch.keys.shape[1]
    _, num_heads, head_dim = q_TNH.shape
    num_kv_heads = k_TKH.shape[1]
    group = num_heads // num_kv_heads
    q = q_TNH.index_select(0, batch.queries.view(-1))
    q = q.view(n, num_queries, num_kv_heads, group, head_dim).permute(0, 2, 3, 1, 4)
    k, v = (
        x.index_select(0, batch.keys.view(-1))
        .view(n, num_keys, num_kv_heads, head_dim)
        .transpose(1, 2)
        for x in (k_TKH, v_TKH)
    )
    sees_all = window is None or window >= num_keys
    if softcap is None and sees_all and batch.is_causal and num_keys >= LONG_LEN:
        q = q.reshape(n, num_heads, num_queries, head_dim)
        x = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    else:
        q = q.reshape(n, num_kv_heads, group * num_queries, head_dim)
        is_small = softcap is None and q.numel() // head_dim * num_keys <= MAX_SCORES
        dtype = torch.float32 if is_small else q.dtype
        mask = batch.mask(None if sees_all else window, group, dtype)
        if is_small:
            x = Attend.apply(q, k, v, mask, scale)
        elif softcap is None:
            x = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        else:
            scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scale / softcap))
            x = torch.softmax(scores + mask, dim=-1) @ v
    x = x.reshape(n, num_kv_heads, group, num_queries, head_dim).permute(0, 3, 1, 2, 4)
    return x.reshape(n * num_queries, num_heads * head_dim)

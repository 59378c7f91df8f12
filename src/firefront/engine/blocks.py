"""The pool of KV blocks: who refers to which block, which are free, which may be evicted.

Knows block ids and opaque cache keys, nothing of tokens or sequences.
Invariant: a block is exactly one of referenced (count > 0), evictable (count 0, cached) or free.
"""

from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Reference counts and cache index of `num_blocks` blocks; evicts the least recently used."""

    def __init__(self, num_blocks: int) -> None:
        assert num_blocks > 0
        self.num_blocks = num_blocks
        self._num_refs = [0] * num_blocks
        self.is_drafted = bytearray(num_blocks)  # 1: the draft model has computed its tokens too
        self._key_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free = list(range(num_blocks - 1, -1, -1))
        self._evictable: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can give now: the free and the evictable."""
        return len(self._free) + len(self._evictable)

    def allocate(self) -> int:
        """Take a block nobody refers to, evicting the least recently used cached one if need be."""
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._evictable.popitem(last=False)
            self._forget_key(block)
        self._num_refs[block] = 1
        self.is_drafted[block] = 0
        return block

    def share(self, block: int) -> None:
        """Add a reference to a block found in the cache."""
        if self._num_refs[block] == 0:
            del self._evictable[block]
        self._num_refs[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Drop one reference of each, last first, so that a chain is evicted from its tail."""
        for block in reversed(list(blocks)):
            assert self._num_refs[block] > 0, f"block {block} released twice"
            self._num_refs[block] -= 1
            if self._num_refs[block] == 0:
                if self._key_of[block] is None:
                    self._free.append(block)
                else:
                    self._evictable[block] = None

    def find(self, key: bytes) -> int | None:
        """The block cached under `key`, if any."""
        return self._block_of.get(key)

    def is_idle(self, block: int) -> bool:
        """True when no sequence refers to the block."""
        return self._num_refs[block] == 0

    def is_readable(self, block: int) -> bool:
        """True when its content may still be read: somebody refers to it or the cache holds it."""
        return self._num_refs[block] > 0 or self._key_of[block] is not None

    def cache(self, block: int, key: bytes) -> None:
        """Make a referenced block findable; where the key has a block already, that one stays."""
        assert self._num_refs[block] > 0
        if self._key_of[block] is None and key not in self._block_of:
            self._key_of[block] = key
            self._block_of[key] = block

    def uncache(self, blocks: Iterable[int]) -> None:
        """Make blocks unfindable (their content is suspect); references stay."""
        for block in blocks:
            self._forget_key(block)
            if block in self._evictable:
                del self._evictable[block]
                self._free.append(block)

    def check_invariants(self, tables: Iterable[Iterable[int]]) -> None:
        """Assert that counts match the given block tables and no block is lost or in two places."""
        counts = [0] * self.num_blocks
        for table in tables:
            for block in table:
                counts[block] += 1
        assert counts == self._num_refs, "reference counts differ from the block tables"
        referenced = {block for block, count in enumerate(counts) if count}
        free, evictable = set(self._free), set(self._evictable)
        assert len(free) == len(self._free), "a block is free twice"
        assert not free & evictable and not referenced & (free | evictable)
        assert len(free) + len(evictable) + len(referenced) == self.num_blocks, "a block is lost"
        assert all(self._key_of[block] is None for block in free)
        assert all(self._key_of[block] is not None for block in evictable)
        assert {key: b for b, key in enumerate(self._key_of) if key is not None} == self._block_of

    def _forget_key(self, block: int) -> None:
        key = self._key_of[block]
        if key is not None:
            del self._block_of[key]
            self._key_of[block] = None

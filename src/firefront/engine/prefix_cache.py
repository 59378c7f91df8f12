"""Which blocks of a new sequence are already computed: a chain of keyed hashes, one a full block.

Owns the keys, not the blocks. A key covers account salt, adapter, every token before and the tokens
of the block, so that equal keys mean equal content and no account can probe another's prompts.
Invariant: only blocks whose KV was written by a step that succeeded are inserted.
"""

import hashlib

from firefront.core.messages import AdapterRef
from firefront.core.step import BLOCK_SIZE
from firefront.engine.blocks import BlockPool
from firefront.engine.sequence import Sequence

_KEY_BYTES = 32


class PrefixCache:
    """Matches and inserts full blocks. `secret` keys the hash and never leaves the process."""

    def __init__(self, pool: BlockPool, secret: bytes, enabled: bool = True) -> None:
        self._pool = pool
        self._secret = secret
        self._enabled = enabled

    def match(self, sequence: Sequence) -> list[int]:
        """The longest chain of cached blocks; at least one token is always left to compute.

        A sequence whose prompt must still be scored matches nothing: its rows would be skipped.
        """
        if not self._enabled or sequence.is_scoring:
            return []
        blocks: list[int] = []
        for idx in range((sequence.num_tokens - 1) // BLOCK_SIZE):
            block = self._pool.find(self._key(sequence, idx))
            if block is None:
                break
            blocks.append(block)
        return blocks

    def insert(self, sequence: Sequence, start: int) -> None:
        """Offer the full blocks that end in tokens `start` .. num_computed to later sequences."""
        if self._enabled:
            for idx in range(start // BLOCK_SIZE, sequence.num_computed // BLOCK_SIZE):
                self._pool.cache(int(sequence.block_table[idx]), self._key(sequence, idx))

    def _key(self, sequence: Sequence, idx: int) -> bytes:
        keys = sequence.block_keys
        if not keys:
            keys.append(self._root(sequence.account_salt, sequence.adapter))
        while len(keys) <= idx + 1:
            first = (len(keys) - 1) * BLOCK_SIZE
            tokens = sequence.tokens[first : first + BLOCK_SIZE].tobytes()
            keys.append(
                hashlib.blake2b(
                    keys[-1] + tokens, key=self._secret, digest_size=_KEY_BYTES, person=b"ff-block"
                ).digest()
            )
        return keys[idx + 1]

    def _root(self, account_salt: bytes, adapter: AdapterRef | None) -> bytes:
        name = b"" if adapter is None else b"\x01" + adapter.sha256.encode()
        return hashlib.blake2b(
            len(account_salt).to_bytes(8, "little") + account_salt + name,
            key=self._secret,
            digest_size=_KEY_BYTES,
            person=b"ff-root",
        ).digest()

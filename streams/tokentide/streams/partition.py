"""Which partition of `usage.spend` an entity belongs to."""

import zlib

from tokentide.schemas import Scope

__all__ = ["entity_key", "entity_partition"]


def entity_key(scope: Scope | str, scope_id: str) -> str:
    """Return the entity's name in topic keys: `scope:scope_id`."""
    return f"{scope}:{scope_id}"


def entity_partition(key: str, partitions: int) -> int:
    """Return the partition of all records about an entity; CRC-32 of its key, so every worker agrees."""
    return zlib.crc32(key.encode()) % partitions

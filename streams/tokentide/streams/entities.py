"""The entities of one partition of `usage.spend`: which are remembered, which changed, and which are let go."""

from functools import lru_cache

from tokentide.schemas import Period
from tokentide.schemas.totals import Update
from tokentide.streams.entity import Cell, Entity, Partial, Source
from tokentide.streams.horizon import Horizon
from tokentide.streams.rewriting import Round

__all__ = ["Entities"]

_SWEPT_AT_ONCE = 2000


class Entities:
    """Entities by their keys, with their days and months that are not let go."""

    def __init__(self) -> None:
        self._entities: dict[str, Entity] = {}
        self._cells = self._fired = 0
        self.amended: dict[str, tuple[Cell, ...]] = {}
        """The cells that changed since the last `take_amended`."""
        self.round = Round[str]()
        # What was swept up to, who is left to be, and who went.
        self._swept = Horizon()
        self._to_sweep: list[str] = []
        self._gone: set[str] = set()

    def __len__(self) -> int:
        return len(self._entities)

    def sizes(self) -> dict[str, int]:
        """Return how many entities, cells (days and months of an entity) and fired alerts are remembered."""
        return {"entities": len(self._entities), "cells": self._cells, "fired": self._fired}

    def get(self, key: str) -> Entity | None:
        """Return an entity; None for one that is not remembered."""
        return self._entities.get(key)

    def load(self, key: str, value: bytes) -> None:
        """Take in what a changelog holds; raises as `Entity.merge` does. Then call `loaded`."""
        if not self._entities.setdefault(key, Entity()).merge(value):
            self.round.urgent.add(key)

    def loaded(self, horizon: Horizon) -> None:
        """Let go of all that is closed."""
        self._cells = sum(len(entity.cells) for entity in self._entities.values())
        self._fired = sum(len(entity.fired) for entity in self._entities.values())
        self._swept = horizon
        for key in list(self._entities):
            self._sweep(key)

    def add(self, key: str, update: Update, offset: int, horizon: Horizon) -> None:
        """Take in the totals of the days and months that are open."""
        source = _source(update.source_partition, update.adjustment)
        entity = None
        amended: tuple[Cell, ...] = ()
        for total in update.totals:
            if total.period is Period.HOUR or horizon.closes(total.period, total.period_start):
                continue
            if entity is None:
                entity = self._entities.get(key)
                if entity is None:
                    entity = self._entities[key] = Entity()
                entity.offset = offset + 1
                self._cells -= len(entity.cells)
            cell = _cell(total.period, total.period_start)
            tokens = total.input_tokens + total.output_tokens
            partial = Partial(update.version, total.cost_pico_usd, tokens, total.unpriced_requests)
            if entity.put(cell, source, partial):
                amended += (cell,)
        if entity is not None:
            self._cells += len(entity.cells)
        if amended:
            known = self.amended.setdefault(key, amended)
            if known != amended:
                self.amended[key] = tuple(dict.fromkeys(known + amended))

    def fire(self, entity: Entity, fired: dict[str, int]) -> None:
        """Remember alerts about an entity: their ids, and the starts of their periods."""
        self._fired -= len(entity.fired)
        entity.fired |= fired
        self._fired += len(entity.fired)

    def take_amended(self, touched: set[str]) -> list[tuple[bytes, bytes]]:
        """Return records for the changelog of all that changed, and of the `touched` ones."""
        keys = [*self.amended, *(touched - self.amended.keys())] if touched else list(self.amended)
        self.amended = {}
        return [(key.encode(), self._entities[key].record()) for key in keys]

    def begin_round(self) -> None:
        """Have all records written again, those first that are there for longest."""
        self.round.begin(reversed(self._entities))

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records of the round for the changelog, and before those what `load` found urgent.

        Entities that changed and were not taken yet are left out: what is remembered must have been published.
        """
        return [
            (key.encode(), self._entities[key].record())
            for key in self.round.take(count)
            if key in self._entities and key not in self.amended
        ]

    def is_sweeping(self, remembered: Horizon) -> bool:
        """Whether some are left to be swept up to what the changelog tells closed, or went and were not taken yet."""
        return bool(self._gone or self._to_sweep) or self._swept != remembered

    def sweep_some(self, remembered: Horizon) -> None:
        """Go over a part of the entities, until all of them have let go of what the changelog tells closed.

        Nothing that was amended meanwhile is: it was open, by a horizon that is not behind that.
        """
        if not self._to_sweep and self._swept != remembered:
            self._swept = remembered
            self._to_sweep = list(self._entities)
        for key in self._to_sweep[-_SWEPT_AT_ONCE:]:
            self._sweep(key)
        del self._to_sweep[-_SWEPT_AT_ONCE:]

    def take_gone(self) -> list[bytes]:
        """Return the keys to be deleted from the changelog."""
        gone, self._gone = self._gone, set()
        return [key.encode() for key in gone if key not in self._entities]

    def _sweep(self, key: str) -> None:
        """Let go of what is closed of an entity, and of an entity of which nothing is left."""
        entity = self._entities.get(key)
        if entity is None:
            return
        self._cells -= len(entity.cells)
        self._fired -= len(entity.fired)
        entity.expire(self._swept)
        if entity.cells or entity.fired:
            self._cells += len(entity.cells)
            self._fired += len(entity.fired)
        else:
            del self._entities[key]
            self._gone.add(key)


# Nearly all entities share their cells and sources: one tuple each, instead of thousands that equal it.
@lru_cache(maxsize=4096)
def _cell(period: Period, start: int) -> Cell:
    return period, start


@lru_cache(maxsize=4096)
def _source(source_partition: int, adjustment: str) -> Source:
    return source_partition, adjustment

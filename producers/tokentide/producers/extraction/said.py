"""What a model, or a request, said: how long it is, and its beginning as far as that can be counted in tokens."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from tokentide.producers.extraction.tokenizer import is_ready, tokens_in

__all__ = ["SAID", "Said", "said_in", "said_of", "tokens_of_characters"]

SAID = "_said"
"""Where an answer holds what its chunks said: a name that no answer has from outside."""

_CHARACTERS_PER_TOKEN = 4
_MOST_CHARACTERS = 16_000
"""Of a text; to encode so many takes a few milliseconds of the service's call."""
_MOST_PARTS = 256


class Said:
    """Texts by their length, and the first 16,000 characters of them while an encoding is there; not thread-safe.

    Texts of one `part` continue each other, as the chunks of a stream do; tokens never reach from part to part.
    """

    __slots__ = ("_kept", "_parts", "_room", "characters")

    def __init__(self, texts: Iterable[str | None] = ()) -> None:
        self.characters = 0
        self._kept = 0
        self._room = _MOST_CHARACTERS if is_ready() else 0
        self._parts: dict[Hashable, list[str]] = {}
        self.add_each(texts)

    def __bool__(self) -> bool:
        return self.characters > 0

    def __repr__(self) -> str:
        return f"Said({self.characters} characters)"

    def add(self, text: str | None, part: Hashable = None) -> None:
        """Add a text, behind the others of its part."""
        if not text:
            return
        self.characters += len(text)
        if self._room and (part in self._parts or len(self._parts) < _MOST_PARTS):
            head = text[: self._room]
            self._parts.setdefault(part, []).append(head)
            self._kept += len(head)
            self._room -= len(head)

    def add_each(self, texts: Iterable[str | None]) -> None:
        """Add texts of which none continues another."""
        for text in texts:
            self.add(text, object())

    def together(self, other: "Said") -> "Said":
        """Return both as one, and leave them as they are."""
        both = Said()
        for each in (self, other):
            before = both.characters
            both.add_each("".join(texts) for texts in each._parts.values())
            both.characters = before + each.characters
        return both

    def tokens(self, model: str | None) -> int:
        """Return about how many tokens it is for the model: encoded, else a quarter of the characters, rounded up.

        What is longer than the part that was kept has as many tokens a character as that.
        """
        if not self.characters:
            return 0
        head = tokens_in(("".join(texts) for texts in self._parts.values()), model)
        if head is None or not self._kept:
            return tokens_of_characters(self.characters)
        return -(-head * self.characters // self._kept)


def tokens_of_characters(characters: int) -> int:
    """Return the tokens that so much English text takes, about: a quarter of its characters, rounded up."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def said_of(answer: Mapping[str, Any], name: str = SAID) -> Said:
    """Return what the chunks of the answer said; nothing, when there were none."""
    found = answer.get(name)
    return found if isinstance(found, Said) else Said()


def said_in(answer: dict[str, Any]) -> Said:
    """Return what the chunks of the answer said so far, to add to it."""
    answer[SAID] = said = said_of(answer)
    return said

"""Who may send usage: API keys, kept as digests, each perhaps bound to a service or a team."""

import hmac
import re
import tomllib
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokentide.console.control import problem_words
from tokentide.console.ingest.settings import IngestSettings
from tokentide.schemas import SettingsError

__all__ = ["ANYBODY", "Client", "KeyRing"]

# What a header carries as it stands, and nobody guesses.
_SECRET = re.compile(r"[!-~]{16,}")
_WEAK = "must be at least 16 characters of ASCII without a space"
_Label = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]


class Client(NamedTuple):
    """Whoever a key belongs to; events may name no other service and no other team than these."""

    name: str
    service: str | None = None
    team_id: str | None = None


ANYBODY = Client("anybody")
"""The client of a door without keys."""


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: _Label
    secret: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    service: _Label | None = None
    team_id: _Label | None = None

    @model_validator(mode="after")
    def _has_one_secret(self) -> "_Key":
        if (self.secret is None) == (self.sha256 is None):
            raise ValueError("needs a secret, or the sha256 of one, but not both")
        if self.secret is not None and not _SECRET.fullmatch(self.secret):
            raise ValueError(f"secret {_WEAK}")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    key: list[_Key] = Field(min_length=1)


class KeyRing:
    """The keys of a door; without any, everybody is let in."""

    def __init__(self, clients: Iterable[tuple[bytes, Client]]) -> None:
        """`clients`: the SHA-256 of each key, and who holds it."""
        self._clients = tuple(clients)

    @classmethod
    def read(cls, settings: IngestSettings) -> "KeyRing":
        """Return the keys that the settings name.

        Raises SettingsError for a file that cannot be used, for a key that can be guessed, and when a door
        without keys would be open to the network.
        """
        clients: list[tuple[bytes, Client]] = []
        if settings.key is not None:
            if not _SECRET.fullmatch(settings.key):
                raise SettingsError(f"TOKENTIDE_INGEST_KEY {_WEAK}.")
            clients.append((_digest(settings.key), Client("default")))
        if settings.keys_file is not None:
            clients += _from_file(settings.keys_file)
        if len({digest for digest, _ in clients}) < len(clients):
            raise SettingsError("Two keys have the same secret: give each client its own.")
        if not clients and not settings.is_loopback:
            raise SettingsError(
                f"Without keys everybody who reaches {settings.host} could send usage: set TOKENTIDE_INGEST_KEY or "
                "TOKENTIDE_INGEST_KEYS_FILE, or listen on 127.0.0.1."
            )
        return cls(clients)

    def client_of(self, secret: str | None) -> Client | None:
        """Return who holds the key, None for a wrong one; takes as long for each."""
        if not self._clients:
            return ANYBODY
        presented = _digest(secret or "")
        found = None
        for digest, client in self._clients:
            if hmac.compare_digest(digest, presented):
                found = client
        return found


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _from_file(path: Path) -> Iterable[tuple[bytes, Client]]:
    try:
        read = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The keys in {path} cannot be read: {error}.") from error
    except ValidationError as error:
        # The values are left out of the sentence: they are secrets.
        raise SettingsError(f"The keys in {path} are wrong: {problem_words(error)}.") from None
    for key in read.key:
        digest = bytes.fromhex(key.sha256) if key.sha256 else _digest(key.secret or "")
        yield digest, Client(key.name, key.service, key.team_id)

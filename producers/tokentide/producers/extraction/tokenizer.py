"""tiktoken's encodings, as far as they are on this machine: nothing is downloaded, or loaded before it is needed.

An encoding is there when the service loaded it itself. Else the first estimate of a process has a thread read it from
tiktoken's cache; until it is there, lengths must do. Models of OpenAI have the encoding that tiktoken names, those of
all others the newest: that is an approximation, and nearer than a length.
"""

import hashlib
import importlib
import os
import sys
import tempfile
import threading
from base64 import b64decode
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any, Protocol

from tokentide.producers.complaints import Complaints
from tokentide.producers.process import register

__all__ = ["is_ready", "tokens_in"]

_OLDEST = (0, 13)
"""tiktoken before 0.13 takes two seconds for 16,000 emoji without a space, whoever sends them."""
_NEAREST = ("o200k_base", "cl100k_base")
# They differ from another in their special tokens only, which a text has none of.
_SAME = {"o200k_harmony": "o200k_base", "p50k_edit": "p50k_base"}
_LONGEST_IMPORT_SECONDS = 1.0


class _Encoding(Protocol):
    def encode_ordinary(self, text: str) -> list[int]:
        """Return the tokens of the text; what looks like a special token is text."""


class _Encodings:
    """The encodings of this process, and the one thread that loads what is missing; no call waits for a lock."""

    def __init__(self) -> None:
        self._loaded: dict[str, _Encoding] = {}
        self._tried: set[str] = set()
        self._unusable = False
        self._complaints = Complaints()
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        """Have a load that was under way begin again in the child, with the next estimate."""
        # One entry, taken by the thread that loads: list.pop() is atomic, and safe inside a finalizer.
        self._idle = [True]
        self._importing = threading.Lock()
        self._forking: set[int] = set()
        self._closed = False

    def close_at_exit(self) -> None:
        """Begin no further step of a load."""
        self._closed = True

    def before_fork(self) -> None:
        """Wait for an import that is under way: no thread of the child could ever finish it, nor import it again."""
        if self._importing.acquire(timeout=_LONGEST_IMPORT_SECONDS):
            self._forking.add(threading.get_ident())

    def after_fork_in_parent(self) -> None:
        """Let imports go on."""
        if threading.get_ident() in self._forking:
            self._forking.discard(threading.get_ident())
            self._importing.release()

    def is_ready(self) -> bool:
        """Whether an encoding is there."""
        return bool(self._loaded or _of_the_service())

    def find(self, model: str | None) -> _Encoding | None:
        """Return the encoding for the model, or the nearest that is there; None for none, and the load begins.

        Where the service has one of the nearest no other is loaded: it would count a few tokens more or less, for a
        halt of the service's threads and some fifty megabytes.
        """
        name = _name_for(model)
        found = self._there(name)
        nearest = next(filter(None, map(self._there, _NEAREST)), None)
        is_enough = found is not None or nearest in _of_the_service().values()
        if not is_enough and name not in self._tried and not self._unusable:
            self._load_in_thread(model)
        return found or nearest

    def _there(self, name: str | None) -> _Encoding | None:
        return self._loaded.get(name or "") or _of_the_service().get(name or "")

    def _load_in_thread(self, model: str | None) -> None:
        if not threading.main_thread().is_alive():
            return  # the process ends: a finalizer's estimate would wait for ever for a thread that never runs
        try:
            self._idle.pop()
        except IndexError:
            return
        thread = threading.Thread(target=self._load, args=(model,), name="tokentide-tokenizer", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: the next estimate tries again
            self._idle.append(True)

    def _load(self, model: str | None) -> None:
        """Load the encoding for the model, else one of the nearest."""
        idle = self._idle
        try:
            with self._importing:
                importlib.import_module("tiktoken")
            if not _is_new_enough():
                self._unusable = True
                return
            for name in (_name_for(model), *_NEAREST):
                if name is None or self._closed or self._there(name) or self._load_one(name):
                    return
        except ImportError:
            self._unusable = True
        except BaseException as error:  # also a panic of tiktoken's Rust, which is no Exception
            self._give_up(error)
        finally:
            idle.append(True)

    def _load_one(self, name: str) -> bool:
        """Load one encoding; return whether its file was there."""
        try:
            self._loaded[name] = _read(name, self._importing)
        except FileNotFoundError:
            pass
        except (LookupError, OSError, TypeError, ValueError) as error:
            self._complaints.warn("tokenizer", f"tiktoken's encoding {name} was not loaded: {error}")
        self._tried.add(name)  # at the end: a child that is forked before tries anew
        return name in self._loaded

    def _give_up(self, error: BaseException) -> None:
        self._unusable = True
        self._complaints.warn("tokenizer", f"tiktoken was not loaded: {type(error).__name__}")


def is_ready() -> bool:
    """Whether an encoding is there, so that it is worth to keep the beginning of a text."""
    return _encodings.is_ready()


def tokens_in(texts: Iterable[str], model: str | None) -> int | None:
    """Return the tokens of the texts for the model, each text for itself; None when no encoding is there (yet).

    Takes about a millisecond for 16,000 characters of English, at most seven for what is hardest. Never raises.
    """
    try:
        encoding = _encodings.find(model)
        if encoding is None:
            return None
        # Halves of surrogate pairs take tiktoken longer than all else.
        clean = (text if text.isascii() else text.encode(errors="replace").decode() for text in texts)
        return sum(len(encoding.encode_ordinary(text)) for text in clean)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # also a panic of tiktoken's Rust, which is no Exception
        return None


def _of_the_service() -> dict[str, _Encoding]:
    """Return the encodings that the service loaded, as far as its tiktoken is new enough."""
    registry = sys.modules.get("tiktoken.registry")
    found = getattr(registry, "ENCODINGS", None)
    return found if found and _is_new_enough() else {}


@lru_cache(maxsize=1)
def _is_new_enough() -> bool:
    version = str(getattr(sys.modules.get("tiktoken"), "__version__", "0"))
    numbers = [int(each) for each in version.split(".")[:2] if each.isdigit()]
    return tuple(numbers) >= _OLDEST


def _name_for(model: str | None) -> str | None:
    """Return the name of the model's encoding; None as long as nobody imported tiktoken's table."""
    name_for = getattr(sys.modules.get("tiktoken.model"), "encoding_name_for_model", None)
    if name_for is None:
        return None
    try:
        name: str = name_for((model or "").rpartition("/")[2])
    except KeyError:
        return _NEAREST[0]
    return _SAME.get(name, name)


def _read(name: str, importing: threading.Lock) -> _Encoding:
    """Return tiktoken's encoding from its file in tiktoken's cache.

    tiktoken's own way deletes a file with a wrong hash and downloads it. So the module in which tiktoken describes
    its encodings is executed once more, as a copy with another reader of files: the address, the hash and the pattern
    are tiktoken's, and nothing that runs here knows how to reach the network.

    Raises FileNotFoundError when the file is not there, ValueError when it is not the one that tiktoken expects, and
    LookupError or TypeError when tiktoken describes its encodings in another way.
    """
    tiktoken = importlib.import_module("tiktoken")
    with importing:
        spec = find_spec("tiktoken_ext.openai_public")
        if spec is None or spec.loader is None:
            raise LookupError("tiktoken_ext.openai_public is missing")
        copy = module_from_spec(spec)
        spec.loader.exec_module(copy)
    readers = [
        key for key, each in vars(copy).items() if getattr(each, "__module__", None) == "tiktoken.load"
    ]
    if not readers:
        raise LookupError("tiktoken reads its files in a way that is not known here")
    for each in readers:
        setattr(copy, each, _ranks)
    described: dict[str, Any] = copy.ENCODING_CONSTRUCTORS[name]()
    encoding: _Encoding = tiktoken.Encoding(**described)
    return encoding


def _ranks(address: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Return the tokens and their ranks from the cached file of this address, in place of tiktoken's reader."""
    data = (_cache() / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()).read_bytes()
    if hashlib.sha256(data).hexdigest() != expected_hash:
        raise ValueError("its cached file is not the one that tiktoken expects")
    lines = (line.split() for line in data.splitlines() if line)
    return {b64decode(token): int(rank) for token, rank in lines}


def _cache() -> Path:
    """Return the folder of tiktoken's cache (tiktoken/load.py); raises FileNotFoundError when it is turned off."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            if not os.environ[variable]:
                raise FileNotFoundError("tiktoken's cache is turned off")
            return Path(os.environ[variable])
    return Path(tempfile.gettempdir()) / "data-gym-cache"


_encodings = _Encodings()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_encodings.before_fork, after_in_parent=_encodings.after_fork_in_parent)

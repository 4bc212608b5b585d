"""Who answers a client, told by its class and its address."""

from functools import lru_cache
from urllib.parse import urlsplit

__all__ = ["provider_of"]

_CLASSES = (
    ("Azure", "azure"),
    ("Foundry", "azure"),
    ("Bedrock", "aws"),
    ("Vertex", "google"),
    ("GoogleCloud", "google"),
    ("AWS", "aws"),
)
# The end of the host -> the provider; the first that fits.
_HOSTS = (
    ("openai.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("amazonaws.com", "aws"),
    ("api.aws", "aws"),
    ("openai.com", "openai"),
    ("anthropic.com", "anthropic"),
    ("openrouter.ai", "openrouter"),
    ("x.ai", "x-ai"),
    ("deepseek.com", "deepseek"),
    ("together.xyz", "together"),
    ("together.ai", "together"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral"),
    ("fireworks.ai", "fireworks"),
    ("perplexity.ai", "perplexity"),
    ("googleapis.com", "google"),
    ("cerebras.ai", "cerebras"),
    ("cohere.com", "cohere"),
    ("cohere.ai", "cohere"),
    ("moonshot.ai", "moonshotai"),
    ("moonshot.cn", "moonshotai"),
    ("voyageai.com", "voyageai"),
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Any other port of this machine may be a gateway to a provider that costs: only these are surely free.
_LOCAL_PORTS = {11434: "ollama", 1234: "lmstudio"}


@lru_cache(maxsize=256)
def provider_of(kind: type, base_url: str) -> str:
    """Return the provider that a client of this class, with this address, calls.

    The clients of other makers name themselves (groq, together, ...). One of OpenAI's with an address that is not
    known here gives "openai": a gateway or a compatible server, whose name the user may give as `provider=`.
    """
    for word, provider in _CLASSES:
        if word in kind.__name__:
            return provider
    maker = next((base.__module__.partition(".")[0] for base in kind.__mro__ if _is_client(base)), "openai")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return maker
    for end, provider in _HOSTS:
        if host == end or host.endswith("." + end):
            return provider
    if maker == "openai" and host in _LOOPBACK:
        return _LOCAL_PORTS.get(port or 0, maker)
    return maker


def _is_client(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("anthropic", "cerebras", "groq", "openai", "together")

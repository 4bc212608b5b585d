"""The names of providers: many spellings are in use, totals and prices need one.

Canonical is the id of genai-prices. The others are those of OpenTelemetry (`gen_ai.provider.name`), of gateways,
and what people write.
"""

__all__ = ["LOCAL_PROVIDERS", "canonical_provider"]

LOCAL_PROVIDERS = frozenset({"ollama", "lmstudio", "local"})
"""Models on one's own machine: each call is free."""

_CANONICAL = (
    "anthropic",
    "aws",
    "azure",
    "cerebras",
    "cohere",
    "deepseek",
    "fireworks",
    "google",
    "groq",
    "meta",
    "mistral",
    "moonshotai",
    "openai",
    "openrouter",
    "perplexity",
    "together",
    "voyageai",
    "x-ai",
    *LOCAL_PROVIDERS,
)
_ALIASES = {
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "claude": "anthropic",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "grok": "x-ai",
    "lm-studio": "lmstudio",
    "lm_studio": "lmstudio",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "togetherai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
_NAMES = {name: name for name in _CANONICAL} | _ALIASES


def canonical_provider(name: str) -> str:
    """Return the one name of the provider; a provider that is not known here keeps its own."""
    return _NAMES.get(name) or _NAMES.get(name.strip().lower().replace(" ", "_"), name)

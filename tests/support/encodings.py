"""tiktoken's files, as litellm's wheel carries them: litellm itself is not imported, for that tries the network."""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["CL100K", "FILES", "O200K"]

_litellm = find_spec("litellm")
assert _litellm is not None
assert _litellm.origin is not None
FILES = Path(_litellm.origin).parent / "litellm_core_utils" / "tokenizers"
# The names that tiktoken's cache gives them: a hash of their address.
CL100K = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
O200K = "fb374d419588a4632f3f557e76b4b70aebbca790"

"""Usage from the answers of models: what each provider says, in one form."""

from tokentide.producers.extraction.chunks import ChunkReader, extract

__all__ = ["ChunkReader", "extract"]

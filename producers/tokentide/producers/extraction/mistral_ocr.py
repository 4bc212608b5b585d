"""Mistral's OCR, which is paid by the page. (Its chat and embeddings are read as OpenAI's.)"""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.reading import Call, Reading, mapping_at, number, text_at

__all__ = ["fold", "looks_like", "read"]


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an OCRResponse."""
    return "pages_processed" in mapping_at(answer, "usage_info")


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an OCRResponse says."""
    usage = mapping_at(answer, "usage_info")
    pages = number(usage.get("pages_processed"))
    return Reading(
        counts={} if pages is None else {"pages": pages},
        facts={"model": text_at(answer, "model"), "api_operation": "ocr"},
        raw=usage or None,
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Take the one answer there is: OCR has no stream."""
    answer.update(chunk)

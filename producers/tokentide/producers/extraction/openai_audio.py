"""Transcription, translation and speech in OpenAI's form."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tokentide.producers.extraction.openai_usage import cost_usd, tokens_of
from tokentide.producers.extraction.reading import Call, Reading, mapping_at, number, text_at
from tokentide.producers.extraction.said import SAID, Said, said_in, said_of

__all__ = [
    "fold_speech",
    "fold_transcription",
    "looks_like_speech",
    "looks_like_transcription",
    "read_speech",
    "read_transcription",
]

# The end of a cue, in srt (a comma) and in vtt (a point, hours may be missing).
_CUE_END = re.compile(r"-->\s*(?:(\d{1,3}):)?(\d\d):(\d\d)[.,](\d{3})")


def looks_like_transcription(answer: Mapping[str, Any]) -> bool:
    """Whether this is a transcript that says more than its text, or an event of its stream, OpenAI's or Mistral's."""
    if (text_at(answer, "type") or "").startswith(("transcript.text.", "transcription.")):
        return True
    usage = mapping_at(answer, "usage")
    return isinstance(answer.get("text"), str) and (
        usage.get("type") in ("duration", "tokens")
        or "prompt_audio_seconds" in usage
        or "duration" in answer
        or "x_groq" in answer
    )


def read_transcription(answer: Mapping[str, Any], call: Call) -> Reading:
    """Read a transcript: tokens or seconds, as the model is paid.

    A plain text tells neither. Subtitles tell when the last one ends: that is an estimate of the seconds.
    """
    usage = mapping_at(answer, "usage")
    tokens = tokens_of(usage, call.provider, "transcription")
    counts, raw = tokens.counts, usage
    text = text_at(answer, "text") or ""
    seconds = number(usage.get("seconds"))
    if seconds is not None:
        counts["audio_seconds"] = seconds
    elif not counts and (duration := number(answer.get("duration"))) is not None:
        counts["audio_seconds"], raw = duration, {"duration": answer["duration"]}
    ends = () if counts else _CUE_END.findall(text)
    if ends:
        hours, minutes, whole, thousandths = ends[-1]
        ends_at = int(hours or 0) * 3600 + int(minutes) * 60 + int(whole)
        return Reading(counts={"audio_seconds": ends_at + Decimal(int(thousandths)) / 1000}, is_estimate=True)
    return Reading(
        counts=counts,
        facts={
            "model": text_at(answer, "model"),
            "request_id": text_at(answer, "x_groq", "id"),
            "provider_cost_usd": cost_usd(usage),
        },
        raw=raw if counts else None,
        total=tokens.total,
        said=said_of(answer) if SAID in answer else Said([text]),
    )


def fold_transcription(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of a streamed transcript."""
    for key in ("usage", "model", "x_groq", "duration"):
        if chunk.get(key):
            answer[key] = chunk[key]
    is_text = chunk.get("type") in (None, "transcription.text.delta")
    said_in(answer).add(text_at(chunk, "delta") or (text_at(chunk, "text") if is_text else None))


def looks_like_speech(answer: Mapping[str, Any]) -> bool:
    """Whether this is an event of streamed speech."""
    return (text_at(answer, "type") or "").startswith("speech.audio.")


def read_speech(answer: Mapping[str, Any], call: Call) -> Reading:
    """Read what speech says of itself: tokens when it is streamed as events, else nothing.

    Without tokens the characters of the request count: `tts-1` is paid by them, and for the others they are all
    that is known.
    """
    usage = mapping_at(answer, "usage")
    tokens = tokens_of(usage, call.provider, "speech")
    if "output_tokens" in tokens.counts:
        tokens.counts.setdefault("output_audio_tokens", tokens.counts["output_tokens"])
    if tokens.counts:
        return Reading(counts=tokens.counts, raw=usage, total=tokens.total)
    text = text_at(call.request, "input") or text_at(call.request, "text")
    return Reading(counts={} if text is None else {"input_characters": len(text)})


def fold_speech(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of streamed speech; the sound itself is left aside."""
    if chunk.get("usage"):
        answer["usage"] = chunk["usage"]

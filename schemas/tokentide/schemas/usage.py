"""One call of a model, as a service reports it: version 1, frozen.

Counts follow the OpenTelemetry GenAI conventions (`gen_ai.usage.*`): `input_tokens` includes tokens read from
and written to a cache, `output_tokens` includes reasoning tokens. New fields are optional, always.
"""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic_core import to_json

from tokentide.schemas.errors import InvalidEventError
from tokentide.schemas.event_id import new_event_id
from tokentide.schemas.provider import canonical_provider

__all__ = ["ApiOperation", "Status", "UsageEvent"]

MAX_COUNT = 10**9
MAX_TAGS = 32
MAX_METADATA_BYTES = 8192
EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


def in_utc(moment: datetime) -> datetime:
    """Return the time of a call in UTC; raises ValueError for one that lies too far away."""
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must lie between the years 2010 and 2100; send the time of the call, with its zone")
    return moment.astimezone(UTC)


class ApiOperation(StrEnum):
    """What kind of API was called (`gen_ai.operation.name`, finer)."""

    CHAT = "chat"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    TRANSCRIPTION = "transcription"
    SPEECH = "speech"
    IMAGE = "image"
    RERANK = "rerank"
    OCR = "ocr"
    BATCH = "batch"
    OTHER = "other"


class Status(StrEnum):
    """How the call ended."""

    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


# No control characters: these strings become keys, log lines and table cells.
EventId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]
Provider = Annotated[Name, AfterValidator(canonical_provider)]
Label = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")]
Text = Annotated[str, Field(max_length=2048)]
Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Amount = Annotated[
    Decimal, Field(strict=False, ge=0, le=MAX_COUNT, max_digits=22, decimal_places=12, allow_inf_nan=False)
]
Measure = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Tags = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=256)],
    ],
    Field(max_length=MAX_TAGS),
]


class UsageEvent(BaseModel):
    """One call of a model.

    Raises pydantic.ValidationError for a missing or wrong field, and for counts that contradict each other.
    Unknown fields are ignored, so that older workers read the events of newer services.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", ser_json_inf_nan="null")

    event_id: EventId = Field(
        default_factory=new_event_id,
        description="The dedupe key: the same id counts once. UUIDv7 when not given.",
    )
    schema_version: Literal[1] = 1
    timestamp: Moment = Field(description="Event time: when the call was made; it decides price and period.")

    user_id: Label | None = Field(default=None, description="Who caused the call; empty or absent: nobody.")
    team_id: Label | None = None
    org_id: Label | None = None
    session_id: Label | None = None
    conversation_id: Label | None = Field(default=None, description="`gen_ai.conversation.id`.")
    subscription_tier: Label | None = None
    service: Label | None = Field(default=None, description="The service that called: `service.name`.")
    environment: Label | None = Field(default=None, description="`deployment.environment.name`.")
    operation: Label | None = Field(
        default=None, description="What the call was for, in the service's words."
    )
    operation_id: Label | None = None
    prompt_id: Label | None = None
    run_id: Label | None = None
    agent_name: Label | None = Field(default=None, description="`gen_ai.agent.name`.")

    api_operation: ApiOperation = Field(default=ApiOperation.CHAT, strict=False)
    provider: Provider = Field(
        description="Who sells the model: openai, anthropic, ...; other spellings (xai, gcp.gemini) become these."
    )
    model: Name = Field(description="The model that answered: `gen_ai.response.model`.")
    request_model: Label | None = Field(default=None, description="`gen_ai.request.model`.")
    model_version: Label | None = None
    request_id: Label | None = Field(default=None, description="The provider's id of the answer.")
    provider_created: Moment | None = None
    system_fingerprint: Label | None = None
    service_tier: Label | None = None
    speed: Label | None = None
    region: Label | None = None
    finish_reason: Label | None = None
    processing: Literal["standard", "batch"] = "standard"

    input_tokens: Count = Field(default=0, description="Tokens, with cache reads and writes.")
    output_tokens: Count = Field(default=0, description="Tokens, with reasoning.")
    total_tokens: int = Field(
        default_factory=lambda data: data.get("input_tokens", 0) + data.get("output_tokens", 0),
        description="input_tokens + output_tokens; an event that says otherwise is rejected.",
    )
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = Field(default=0, description="Tokens, of any lifetime.")
    cache_write_1h_tokens: Count = Field(
        default=0, description="The part of cache_write_tokens kept an hour."
    )
    reasoning_tokens: Count = 0
    input_audio_tokens: Count = 0
    output_audio_tokens: Count = 0
    input_image_tokens: Count = 0
    output_image_tokens: Count = 0
    cache_audio_read_tokens: Count = 0
    audio_seconds: Amount = Decimal(0)
    input_characters: Count = 0
    images: Count = 0
    image_size: Label | None = None
    image_quality: Label | None = None
    pages: Count = 0
    web_searches: Count = 0
    tool_calls: Count = 0
    requests: Annotated[int, Field(ge=1, le=10**6)] = 1
    estimated: bool = Field(default=False, description="The counts were estimated, not reported.")

    stream: bool = False
    latency_ms: Measure | None = Field(default=None, description="Milliseconds to the end of the answer.")
    ttft_ms: Measure | None = Field(default=None, description="Milliseconds to the first chunk.")
    status: Status = Field(default=Status.SUCCESS, strict=False)
    error_type: Label | None = None
    error_message: Text | None = None
    complexity_score: Measure | None = None
    provider_cost_usd: Amount | None = Field(default=None, description="What the provider says it cost, USD.")

    trace_id: Label | None = None
    span_id: Label | None = None
    tags: Tags = Field(default_factory=dict)
    metadata: dict[str, JsonValue] = Field(
        default_factory=dict,
        description=f"At most {MAX_METADATA_BYTES} bytes of JSON, NaN counts as null; never prompts.",
    )
    sdk_name: Label | None = None
    sdk_version: Label | None = None
    source: Literal["sdk", "otel", "litellm", "langchain", "http", "replay"] = "sdk"

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.total_tokens != self.input_tokens + self.output_tokens:
            raise ValueError(
                f"total_tokens = {self.total_tokens}, but input_tokens + output_tokens = "
                f"{self.input_tokens + self.output_tokens}; leave total_tokens out or correct the counts"
            )
        counts = self.__dict__
        for smaller, larger in CONTAINED:
            inside = 0
            for name in smaller:
                inside += counts[name]
            if inside > counts[larger]:
                raise ValueError(
                    f"{' + '.join(smaller)} = {inside} cannot exceed {larger} = {counts[larger]}: "
                    f"{larger} includes them"
                )
        if self.metadata and len(to_json(self.metadata)) > MAX_METADATA_BYTES:
            raise ValueError(f"metadata must fit in {MAX_METADATA_BYTES} bytes of JSON")
        return self

    @classmethod
    def from_wire(cls, value: bytes | None) -> Self:
        """Return the event that a Kafka record holds.

        Raises InvalidEventError, whose text says what to mend in the producer. The record must carry its
        `event_id`: an id made up by the reader would make each reading another event.
        """
        if value is None:
            raise InvalidEventError("the record has no value; publish one JSON object per record")
        try:
            event = cls.model_validate_json(value)
        except ValidationError as error:
            raise InvalidEventError(_sentence(error)) from None
        if "event_id" not in event.model_fields_set:
            raise InvalidEventError(
                "event_id: missing; send the id that names this call, the same on a retry"
            )
        return event


def _sentence(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'the record'}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
        if problem["type"] != "default_factory_not_called"
    ]
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return ("; ".join(problems[:5]) + more)[:2000]


# What is counted inside what: the sum of the left never exceeds the right.
CONTAINED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("cache_read_tokens", "cache_write_tokens"), "input_tokens"),
    (("cache_write_1h_tokens",), "cache_write_tokens"),
    (("input_audio_tokens", "input_image_tokens"), "input_tokens"),
    (("cache_audio_read_tokens",), "cache_read_tokens"),
    (("cache_audio_read_tokens",), "input_audio_tokens"),
    (("reasoning_tokens",), "output_tokens"),
    (("output_audio_tokens", "output_image_tokens"), "output_tokens"),
)

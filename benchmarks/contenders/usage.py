"""The event for contenders that read every field of it with msgspec."""

import msgspec


class Usage(msgspec.Struct, gc=False):
    """One call of a model, with every field that a service sends."""

    event_id: str
    timestamp: str
    user_id: str
    team_id: str
    provider: str
    model: str
    operation: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    schema_version: int = 1
    org_id: str = ""
    session_id: str = ""
    service: str = ""
    environment: str = ""
    request_id: str = ""
    latency_ms: float | None = None
    ttft_ms: float | None = None
    finish_reason: str = ""
    stream: bool = False
    tags: dict[str, str] | None = None

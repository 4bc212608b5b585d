"""Why a request is not taken: what a handler raises, and the HTTP answer says."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

__all__ = ["Accepted", "Problem", "Refusal", "Refused"]


class Problem(BaseModel):
    """What is wrong with one event."""

    index: int = Field(description="Place of the event in the request, from 0.")
    problem: str = Field(description="One sentence that says what to mend.")


class Accepted(BaseModel):
    """The answer 202: Kafka has stored the events on all in-sync replicas."""

    accepted: int = Field(description="How many events are stored.")
    event_ids: list[str | None] = Field(
        description="The id of each event, in the order of the request; null where `problems` refuses one."
    )
    problems: list[Problem] = Field(
        default_factory=list, description="With ?partial=true: the events that were refused."
    )


class Refused(BaseModel):
    """Any other answer."""

    error: str = Field(description="One sentence that says what to do.")
    problems: list[Problem] = Field(default_factory=list, description="The wrong events, when these are why.")
    event_ids: list[str | None] = Field(
        default_factory=list,
        description="With 503: send each event again with its id as event_id, and it counts once.",
    )


class Refusal(Exception):
    """Raised where a request ends without success; `headers` are those of the answer."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        problems: Sequence[Problem] = (),
        event_ids: Sequence[str | None] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.answer = Refused(error=error, problems=list(problems), event_ids=list(event_ids))
        self.headers = dict(headers or {})

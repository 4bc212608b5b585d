"""The topics of the pipeline: their names, and how each must be configured."""

from dataclasses import dataclass, fields

from tokentide.schemas.environment import Environment

__all__ = ["TopicNames", "TopicPlan", "changelog_name", "plan_topics"]

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of the topics; each is a setting, `TOKENTIDE_TOPIC_EVENTS` and so on."""

    events: str = "usage.events"
    rejected: str = "usage.rejected"
    priced: str = "usage.priced"
    spend: str = "usage.spend"
    alerts: str = "usage.alerts"
    limits: str = "usage.limits"
    budgets: str = "usage.budgets"
    prices: str = "usage.prices"

    @classmethod
    def read(cls, environment: Environment) -> "TopicNames":
        """Read the names from `TOKENTIDE_TOPIC_*`."""
        return cls(
            **{
                field.name: environment.text(f"TOKENTIDE_TOPIC_{field.name.upper()}", str(field.default))
                for field in fields(cls)
            }
        )


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How one topic must be created."""

    name: str
    partitions: int
    config: dict[str, str]


def plan_topics(names: TopicNames, meter_id: str, partitions: int) -> list[TopicPlan]:
    """Return every topic of a pipeline; partition i of each belongs to the same meter worker.

    The changelogs are here too: Faust would create them without `min.compaction.lag.ms`, and then a frozen
    worker that wakes up could win by compaction.
    """
    compacted = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(_HOUR_MS),
        "max.message.bytes": "4194304",
    }

    def kept(days: int, max_message_bytes: int = 4 * 1024 * 1024) -> dict[str, str]:
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(days * _DAY_MS),
            "message.timestamp.type": "CreateTime",
            "max.message.bytes": str(max_message_bytes),
        }

    # Never compacted and never emptied: a row names the offset below which it knew the overrides, and the audit
    # must be able to replay what was known there. A few records a month cost nothing.
    kept_for_ever = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "max.message.bytes": "4194304",
    }
    return [
        TopicPlan(names.events, partitions, kept(35)),
        # The bytes of a refused record stand there in base64, a third larger.
        TopicPlan(names.rejected, partitions, kept(35, 8 * 1024 * 1024)),
        TopicPlan(names.priced, partitions, kept(7)),
        TopicPlan(names.spend, partitions, kept(7)),
        TopicPlan(names.alerts, partitions, kept(35)),
        TopicPlan(names.limits, partitions, compacted),
        TopicPlan(names.budgets, 1, compacted),
        TopicPlan(names.prices, 1, kept_for_ever),
        TopicPlan(changelog_name(meter_id, "spend"), partitions, compacted),
        TopicPlan(changelog_name(meter_id, "budgets"), partitions, compacted),
    ]


def changelog_name(meter_id: str, table: str) -> str:
    """Return the name that Faust gives a table's changelog topic."""
    return f"{meter_id}-{table}-changelog"

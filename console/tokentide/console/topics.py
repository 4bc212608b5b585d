"""Creating the pipeline's topics, and comparing those that exist with the plan; nothing is ever deleted."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._metadata import TopicMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from tokentide.console.broker import Broker
from tokentide.schemas import ServiceUnavailableError, SettingsError, TopicPlan

__all__ = ["TopicChanges", "TopicState", "compare_topics", "differing_config", "ensure_topics"]

_REQUEST_SECONDS = 20.0
_LOOK_SECONDS = 0.05
# Of these a larger value than planned is as good: who keeps events for a year shall keep them.
_AT_LEAST = frozenset({"retention.ms", "min.compaction.lag.ms", "max.message.bytes"})

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class TopicState:
    """How one planned topic stands on the cluster; `config` holds what differs, name to (actual, planned)."""

    plan: TopicPlan
    partitions: int | None
    config: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)

    @property
    def is_missing(self) -> bool:
        """Whether the topic does not exist yet."""
        return self.partitions is None

    @property
    def has_other_partitions(self) -> bool:
        """Whether the topic exists with another number of partitions, which only people can resolve."""
        return self.partitions is not None and self.partitions != self.plan.partitions


@dataclass(frozen=True)
class TopicChanges:
    """What `ensure_topics` did: names of created topics, and changed settings as sentences."""

    created: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def differing_config(
    actual: Mapping[str, str | None], planned: Mapping[str, str]
) -> dict[str, tuple[str | None, str]]:
    """Return the planned settings that the topic does not fulfil, each as (actual, planned)."""
    return {
        name: (actual.get(name), wanted)
        for name, wanted in planned.items()
        if not _fulfils(name, actual.get(name), wanted)
    }


def compare_topics(broker: Broker, plans: Sequence[TopicPlan]) -> list[TopicState]:
    """Return the state of each planned topic; changes nothing.

    Raises ServiceUnavailableError when the cluster stops answering.
    """
    existing = broker.metadata.topics
    present = [plan for plan in plans if plan.name in existing]
    resources = [ConfigResource(ResourceType.TOPIC, plan.name) for plan in present]
    described = broker.admin.describe_configs(resources) if resources else {}
    actual = {
        resource.name: {name: entry.value for name, entry in _answer(answer, resource.name).items()}
        for resource, answer in described.items()
    }
    return [
        TopicState(
            plan,
            len(existing[plan.name].partitions),
            differing_config(actual[plan.name], plan.config),
        )
        if plan.name in actual
        else TopicState(plan, None)
        for plan in plans
    ]


def ensure_topics(
    broker: Broker, plans: Sequence[TopicPlan], *, replication: int | None = None
) -> TopicChanges:
    """Create the missing topics and set the settings that differ; doing it again changes nothing.

    `replication` is for new topics: 3, or as many nodes as there are when it is None. Raises SettingsError,
    before anything is changed, when a topic has another number of partitions.
    """
    states = compare_topics(broker, plans)
    wrong = [state for state in states if state.has_other_partitions]
    if wrong:
        raise SettingsError(_other_partitions(wrong))
    copies = replication or min(3, len(broker.metadata.brokers))
    missing = [state.plan for state in states if state.is_missing]
    _create(broker.admin, missing, copies)
    changes = TopicChanges(created=[plan.name for plan in missing])
    for state in states:
        if state.config:
            _alter(broker.admin, state)
            changes.altered.extend(
                f"{state.plan.name}: {name} {actual} -> {wanted}"
                for name, (actual, wanted) in state.config.items()
            )
        elif not state.is_missing:
            changes.unchanged.append(state.plan.name)
    return changes


def _fulfils(name: str, actual: str | None, wanted: str) -> bool:
    if actual is None or name not in _AT_LEAST:
        return actual is not None and set(actual.split(",")) == set(wanted.split(","))
    if wanted == "-1":
        return actual == wanted
    return int(actual) >= int(wanted) or (name == "retention.ms" and actual == "-1")


def _other_partitions(wrong: Sequence[TopicState]) -> str:
    """Say which topics have how many partitions, those with equal numbers together."""
    alike: dict[tuple[int | None, int], list[str]] = {}
    for state in wrong:
        alike.setdefault((state.partitions, state.plan.partitions), []).append(state.plan.name)
    counts = ", ".join(
        f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} {actual} and not {planned} partition(s)"
        for (actual, planned), names in alike.items()
    )
    return (
        f"{counts}; run with the number the topics have (--partitions or TOKENTIDE_PARTITIONS), or use new "
        "topic names (TOKENTIDE_TOPIC_...) and another TOKENTIDE_METER_ID: partitions of a live pipeline "
        "cannot change, and nothing was changed."
    )


def _create(admin: AdminClient, plans: Sequence[TopicPlan], replication: int) -> None:
    if not plans:
        return
    # With three copies an acked record must be on two, or the loss of one node loses money.
    safety = {"min.insync.replicas": "2"} if replication >= 3 else {}
    new = [
        NewTopic(
            plan.name,
            num_partitions=plan.partitions,
            replication_factor=replication,
            config={**plan.config, **safety},
        )
        for plan in plans
    ]
    for name, answer in admin.create_topics(new, operation_timeout=_REQUEST_SECONDS).items():
        try:
            _answer(answer, name)
        except KafkaException as error:
            # Another `topics init` at the same moment made it; the next run compares it with the plan.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise SettingsError(f"Kafka refuses to create {name}: {_reason(error)}.") from error
    _await_leaders(admin, [plan.name for plan in plans])


def _await_leaders(admin: AdminClient, names: Sequence[str]) -> None:
    """Return when the metadata names a leader for each partition: the next command shall find them."""
    deadline = time.monotonic() + _REQUEST_SECONDS
    while True:
        try:
            known = admin.list_topics(timeout=_REQUEST_SECONDS).topics
        except KafkaException as error:
            raise ServiceUnavailableError(
                f"Kafka does not answer about its new topics: {_reason(error)}; try again."
            ) from error
        late = [name for name in names if name not in known or not _is_led(known[name])]
        if not late:
            return
        if time.monotonic() >= deadline:
            raise ServiceUnavailableError(
                f"Kafka has no leader for {', '.join(late)} after {_REQUEST_SECONDS:.0f} s; check its log, try again."
            )
        time.sleep(_LOOK_SECONDS)


def _is_led(topic: TopicMetadata) -> bool:
    return bool(topic.partitions) and all(found.leader >= 0 for found in topic.partitions.values())


def _alter(admin: AdminClient, state: TopicState) -> None:
    entries = [
        ConfigEntry(name, wanted, incremental_operation=AlterConfigOpType.SET)
        for name, (_, wanted) in state.config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, state.plan.name, incremental_configs=entries)
    for answer in admin.incremental_alter_configs([resource]).values():
        try:
            _answer(answer, state.plan.name)
        except KafkaException as error:
            raise SettingsError(f"Kafka refuses to change {state.plan.name}: {_reason(error)}.") from error


def _reason(error: KafkaException) -> str:
    return str(error.args[0].str()).rstrip(".")


def _answer(future: "Future[Answer]", name: str) -> Answer:
    try:
        return future.result(_REQUEST_SECONDS)
    except FutureTimeoutError:
        raise ServiceUnavailableError(
            f"Kafka did not answer about {name} within {_REQUEST_SECONDS:.0f} s; try again."
        ) from None

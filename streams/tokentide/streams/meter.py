"""The meter: its three stages wired to Kafka."""

import asyncio
import logging

from tokentide.schemas import SettingsError, TopicNames, changelog_name
from tokentide.streams.clock import DAY_SECONDS, Grace
from tokentide.streams.control import ControlTopic
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.overrides import Overrides
from tokentide.streams.prices import Catalogue
from tokentide.streams.settings import MeterSettings
from tokentide.streams.stages import BudgetStage, PricingStage, SpendStage
from tokentide.streams.worker import Worker, stop_in_doubt
from tokentide.streams.worker_settings import WorkerSettings

__all__ = ["run_meter"]

_LOGGER = logging.getLogger(__name__)


def run_meter(settings: MeterSettings) -> int:
    """Meter until SIGTERM or SIGINT; return the exit code.

    Raises SettingsError for topics of the wrong shape, ServiceUnavailableError for a broker that is away.
    """
    log = Log(settings.kafka)
    names = settings.topics
    spend_changelog = changelog_name(settings.meter_id, "spend")
    budget_changelog = changelog_name(settings.meter_id, "budgets")
    partitions = _partitions(log, names, [spend_changelog, budget_changelog])
    outbox = Outbox(settings.kafka, settings.session_timeout_seconds, stop_in_doubt)

    def committed(topic: str, partition: int) -> int | None:
        return log.committed(settings.meter_id, topic, partition)

    grace = Grace(settings.day_grace_days * DAY_SECONDS, settings.month_grace_days * DAY_SECONDS)
    budgets = BudgetStage(names, budget_changelog, partitions, outbox, log, committed=committed, grace=grace)
    overrides = Overrides()
    pricing = PricingStage(
        names,
        outbox,
        log,
        Catalogue(overrides),
        committed=committed,
        seen_dir=settings.work_dir / "seen" / settings.worker,
        dedupe_days=settings.dedupe_days,
        max_future_seconds=settings.max_future_seconds,
        grace=grace,
    )
    spend = SpendStage(
        names,
        spend_changelog,
        partitions,
        outbox,
        log,
        committed=committed,
        watermark_delay_seconds=settings.watermark_delay_seconds,
    )

    async def know_settings() -> None:
        """Return when the budgets and prices of this moment are known; later ones are followed."""
        await asyncio.gather(
            ControlTopic(settings.kafka, names.budgets, budgets.apply_budget).follow(),
            ControlTopic(settings.kafka, names.prices, overrides.apply).follow(),
        )

    worker = Worker(
        WorkerSettings(
            group=settings.meter_id,
            name=settings.worker,
            kafka=settings.kafka,
            work_dir=settings.work_dir,
            session_timeout_seconds=settings.session_timeout_seconds,
            recovery_seconds=settings.recovery_seconds,
            flush_seconds=settings.flush_seconds,
            chunk_records=settings.chunk_records,
            metrics=settings.metrics,
        ),
        [pricing, spend, budgets],
        first=know_settings,
    )
    return worker.run()


def _partitions(log: Log, names: TopicNames, changelogs: list[str]) -> int:
    """Return how many partitions every topic has; raises SettingsError when they differ or one is missing."""
    equal = [names.events, names.rejected, names.priced, names.spend, names.alerts, names.limits, *changelogs]
    single = [names.budgets, names.prices]
    found = log.partitions([*equal, *single])
    missing = sorted(name for name, count in found.items() if not count)
    if missing:
        raise SettingsError(f"these topics are missing: {', '.join(missing)}; run `tokentide topics init`")
    wanted = found[names.events]
    wrong = sorted(f"{name} has {found[name]}" for name in equal if found[name] != wanted)
    wrong += [f"{name} has {found[name]} instead of 1" for name in single if found[name] != 1]
    if wrong:
        raise SettingsError(
            f"{names.events} has {wanted} partitions, but {', '.join(wrong)}; partitions of a live pipeline cannot "
            "change: use new topic names (TOKENTIDE_TOPIC_...) and another TOKENTIDE_METER_ID, or make them equal"
        )
    return wanted

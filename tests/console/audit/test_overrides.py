"""Own prices in the audit: each row is priced anew with what was known when it was priced."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.sources import Sources

from tokentide.console.audit import AuditReport, AuditRules, Source, run_audit
from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.overrides import KnownPrices, PriceStep
from tokentide.console.audit.price import price_event
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import DataLossError, UsageEvent
from tokentide.schemas.chunk import Record
from tokentide.streams.overrides import Overrides
from tokentide.streams.prices import Catalogue, Counts, PriceContext

NOON = datetime(2025, 11, 3, 12, tzinfo=UTC)


def override(usd: str, valid_from: str = "2025-11-03T00:00:00Z", **fields: Any) -> bytes:
    content = {
        "provider": "openai",
        "model": "gpt-4o",
        "valid_from": valid_from,
        "input_usd_per_mtok": usd,
        "output_usd_per_mtok": usd,
        **fields,
    }
    return json.dumps(content).encode()


def publish(settings: ConsoleSettings, *values: bytes) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "log_level": 0})
    for value in values:
        producer.produce(settings.topics.prices, value, b"key")
    assert producer.flush(30) == 0


def audit(settings: ConsoleSettings, sources: Sources) -> AuditReport:
    sources.write(settings)
    return run_audit(settings, rules=AuditRules())


def cost(usd: int) -> int:
    """What an event of these tests costs, 1000 tokens of input and 10 of output, in pico-USD."""
    return 1010 * usd * 1_000_000


def test_rows_rest_on_what_was_known_when_they_were_priced(settings: ConsoleSettings) -> None:
    """Also where a worker that knew less was the first to price an offset, and for rows of before the override."""
    publish(settings, override("1"), override("3"), b"no override", override("3", withdrawn=True))
    sources = Sources()
    sources.event(0, "before")
    sources.event(0, "one", cost=cost(1), known_prices=1)
    sources.log_event(0, "one")
    sources.event(0, "two", cost=cost(3), known_prices=3)
    sources.event(0, "zombie", cost=cost(1), known_prices=1)
    sources.event(0, "withdrawn", known_prices=4)
    sources.event(0, "october", known_prices=4, timestamp="2025-10-31T23:59:59+00:00")
    sources.event(1, "another partition", cost=cost(3), known_prices=2)
    sources.event(1, "free", provider="ollama", model="llama3", known_prices=2)

    report = audit(settings, sources)

    assert report.differences == ()
    assert report.equal
    costs = {used.cost_pico_usd for used in report.totals.values()}
    assert costs == {3 * 2_600_000_000 + 2 * cost(1) + 2 * cost(3)}


def test_a_row_that_was_priced_otherwise_is_named(settings: ConsoleSettings) -> None:
    publish(settings, override("1"), override("3"))
    sources = Sources()
    sources.event(0, "right", cost=cost(3), known_prices=2)
    sources.event(0, "wrong", cost=cost(1), known_prices=2)

    report = audit(settings, sources)

    assert not report.equal
    wrong = {(each.field, each.found - each.expected) for each in report.differences}
    assert wrong == {("cost_pico_usd", cost(1) - cost(3))}


def test_a_row_that_names_prices_which_do_not_exist_is_named(settings: ConsoleSettings) -> None:
    publish(settings, override("1"))
    sources = Sources()
    sources.event(0, "right", cost=cost(1), known_prices=1)
    sources.event(0, "wrong", cost=cost(1), known_prices=7)
    sources.event(0, "wrong too", cost=cost(1), known_prices=7)

    report = audit(settings, sources)

    [difference] = report.differences
    assert (difference.scope, difference.scope_id, difference.field) == ("price", "0:1", "known_prices")
    assert (difference.expected, difference.found) == (1, 7)
    assert report.suspects == (Source.RAW,)


def test_an_event_without_a_row_takes_what_the_row_before_it_knew(settings: ConsoleSettings) -> None:
    publish(settings, override("1"), override("3"))
    sources = Sources()
    sources.event(0, "there", cost=cost(1), known_prices=1)
    sources.event(0, "not there", cost=cost(1), known_prices=1)
    sources.event(0, "later", cost=cost(3), known_prices=2)
    del sources.rows[1]

    report = audit(settings, sources)

    assert report.suspects == (Source.RAW,)
    assert {each.source for each in report.differences} == {Source.RAW}


def test_prices_that_were_lost_end_the_audit(settings: ConsoleSettings) -> None:
    publish(settings, override("1"), override("3"))
    admin = AdminClient({"bootstrap.servers": settings.kafka.broker})
    for answer in admin.delete_records([TopicPartition(settings.topics.prices, 0, 1)]).values():
        answer.result(20)

    with pytest.raises(DataLossError, match=r"prices has lost its first records.*tokentide doctor"):
        run_audit(settings, rules=AuditRules())


def test_a_missing_topic_is_named(settings: ConsoleSettings) -> None:
    other = replace(settings, topics=replace(settings.topics, prices="nowhere"))

    with pytest.raises(Exception, match=r"no topic nowhere .*tokentide topics init"):
        run_audit(other, rules=AuditRules())


MONEY = st.decimals(0, 100, places=6).map(str)
RECORDS = st.lists(
    st.builds(
        override,
        MONEY,
        st.integers(0, 3).map(lambda hours: (NOON + timedelta(hours=hours)).isoformat()),
        model=st.sampled_from(["gpt-4o", "own"]),
        withdrawn=st.booleans(),
        cache_read_usd_per_mtok=st.none() | MONEY,
        usd_per_request=st.decimals(0, 1, places=12).map(lambda usd: f"{usd:f}"),
    )
    | st.just(b"no override"),
    max_size=8,
)


@given(
    records=RECORDS,
    known=st.integers(0, 8),
    hours=st.integers(-1, 4),
    model=st.sampled_from(["gpt-4o", "own"]),
    fresh=st.integers(0, 10**6),
    read=st.integers(0, 10**6),
    requests=st.integers(1, 1000),
)
@examples(max_examples=200, deadline=None)
def test_meter_and_audit_say_the_same(
    records: list[bytes], known: int, hours: int, model: str, fresh: int, read: int, requests: int
) -> None:
    known = min(known, len(records))
    event = UsageEvent(
        timestamp=NOON + timedelta(hours=hours),
        provider="openai",
        model=model,
        input_tokens=fresh + read,
        cache_read_tokens=read,
        requests=requests,
    )
    overrides = Overrides()
    for offset, value in enumerate(records[:known]):
        overrides.apply(Record(offset, 0, None, value))
    log = [LogRecord(0, offset, 0, None, value) for offset, value in enumerate(records)]
    prices = KnownPrices(log, [PriceStep(2, 5, known)], len(records))

    by_audit = price_event(event, prices.of(event, 2, 6))

    by_meter = Catalogue(overrides).price(
        "openai",
        model,
        event.timestamp,
        PriceContext("standard", "", ""),
        Counts(event.input_tokens, 0, read),
        requests,
    )
    assert by_audit == (by_meter.status, by_meter.total)
    assert prices.of(event, 2, 4) is None
    assert prices.of(event, 1, 6) is None


def test_an_override_is_exact_where_it_is_largest() -> None:
    [record] = [LogRecord(0, 0, 0, None, override("1000000", usd_per_request="1000000"))]
    event = UsageEvent(timestamp=NOON, provider="openai", model="gpt-4o", input_tokens=10**9, requests=10**6)

    found = price_event(event, KnownPrices([record], [PriceStep(0, 0, 1)], 1).of(event, 0, 0))

    assert found.cost_pico_usd == int((Decimal(10**9) + 10**12).scaleb(12))

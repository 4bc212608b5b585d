"""An own price that is set and withdrawn while events flow, on real servers and real processes."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest
from support.servers import Servers
from support.traffic import send, traffic

from tokentide.console.audit import run_audit
from tokentide.console.lag import wait_until_settled
from tokentide.console.prices import new_price, write_price
from tokentide.console.stack import Stack
from tokentide.sinks import connect


@pytest.mark.slow
def test_prices_that_change_in_mid_stream_stay_exact(servers: Servers, tmp_path: Path) -> None:
    end = datetime.now(UTC) - timedelta(minutes=5)
    price = new_price(
        provider="openai",
        model="gpt-4o",
        valid_from=end - timedelta(days=3),
        input_usd_per_mtok=Decimal("0.123457"),
        output_usd_per_mtok=Decimal(7),
        cache_read_usd_per_mtok=Decimal(0),
        usd_per_request=Decimal("0.000000000001"),
    )
    changes = (price, price.model_copy(update={"output_usd_per_mtok": Decimal(9)}))
    withdrawn = price.model_copy(update={"withdrawn": True})
    with Stack(
        tmp_path,
        broker=servers.broker,
        clickhouse_url=servers.clickhouse_url,
        meters=2,
        sinks=1,
        partitions=4,
        variables={**os.environ, "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "8"},
    ) as running:
        settings = running.settings
        events = iter(traffic(20_000, seed=3, end=end))
        for change in (*changes, withdrawn, None):
            send(islice(events, 5_000), running.bootstrap, settings.topics.events, per_second=1_500.0)
            if change is not None:
                write_price(settings.kafka, settings.topics.prices, change)

        wait_until_settled(settings, 120.0)

        report = run_audit(settings)
        client = connect(settings.clickhouse)
        rows = client.query(
            "SELECT toInt32OrZero(extract(ifNull(price_version, ''), 'prices@([0-9]+)')), price_source, count() "
            "FROM usage_events FINAL WHERE provider = 'openai' AND model = 'gpt-4o' GROUP BY 1, 2"
        ).result_rows
        client.close()
    assert report.equal, report.differences[:5]
    found = {(known, source): count for known, source, count in rows}
    assert all(found[known, "override"] > 0 for known in (1, 2)), found
    # Events of before `valid_from` go on by the catalogue, and all do when nothing was known, or all was withdrawn.
    assert {known for known, source in found if source == "genai-prices"} >= {0, 3}
    assert (0, "override") not in found
    assert (3, "override") not in found

"""Meter a few made-up calls: `python examples/track_usage.py`, with TOKENTIDE_BROKER for another Kafka."""

import sys

from tokentide.producers import UsageProducer

with UsageProducer() as usage:
    for call in range(10):
        usage.track(
            provider="openai",
            model="gpt-4o-mini",
            user_id=f"user-{call % 3}",
            team_id="team-01",
            operation="example",
            input_tokens=800 + call,
            output_tokens=120,
            tags={"feature": "chat"},
        )
    undelivered = usage.flush(10)
    print(usage.counters)
sys.exit(1 if undelivered else 0)

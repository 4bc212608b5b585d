"""The producer SDK: services report each call of a model, and are never slowed down or broken by it."""

from typing import TYPE_CHECKING

from tokentide.producers.attribution import (
    AttributedThreadPoolExecutor,
    attributed,
    attribution,
    current_attribution,
    unattributed_calls,
)
from tokentide.producers.counters import Counters
from tokentide.producers.default import default_producer, set_default_producer
from tokentide.producers.middleware import AsgiAttribution, WsgiAttribution
from tokentide.producers.producer import UsageProducer
from tokentide.producers.settings import ProducerSettings
from tokentide.schemas.later import later

if TYPE_CHECKING:
    from tokentide.producers.credit_entry import CreditEntry
    from tokentide.producers.decision import BudgetExceeded, Decision, GuardRefused, UserBlocked
    from tokentide.producers.extraction import ChunkReader, extract
    from tokentide.producers.guard import Guard
    from tokentide.producers.guard_settings import GuardSettings
    from tokentide.producers.instrumentation import instrument, uninstrument
    from tokentide.producers.instrumentation.langchain_callback import langchain_callback
    from tokentide.producers.instrumentation.litellm_callback import litellm_callback
    from tokentide.producers.instrumentation.otel import span_processor
    from tokentide.producers.ledger import CreditLedger
    from tokentide.producers.metering import meter, record
    from tokentide.producers.observation_tally import ObservationCounters, observation_counters
    from tokentide.producers.usage import Usage, event_id_of

__all__ = [
    "AsgiAttribution",
    "AttributedThreadPoolExecutor",
    "BudgetExceeded",
    "ChunkReader",
    "Counters",
    "CreditEntry",
    "CreditLedger",
    "Decision",
    "Guard",
    "GuardRefused",
    "GuardSettings",
    "ObservationCounters",
    "ProducerSettings",
    "Usage",
    "UsageProducer",
    "UserBlocked",
    "WsgiAttribution",
    "attributed",
    "attribution",
    "current_attribution",
    "default_producer",
    "event_id_of",
    "extract",
    "instrument",
    "langchain_callback",
    "litellm_callback",
    "meter",
    "observation_counters",
    "record",
    "set_default_producer",
    "span_processor",
    "unattributed_calls",
    "uninstrument",
]

# Imported when they are first asked for: a service that only tracks events starts without them.
_LATER = {
    "credit_entry": ("CreditEntry",),
    "decision": ("BudgetExceeded", "Decision", "GuardRefused", "UserBlocked"),
    "extraction": ("ChunkReader", "extract"),
    "guard": ("Guard",),
    "guard_settings": ("GuardSettings",),
    "instrumentation": ("instrument", "uninstrument"),
    "instrumentation.langchain_callback": ("langchain_callback",),
    "instrumentation.litellm_callback": ("litellm_callback",),
    "instrumentation.otel": ("span_processor",),
    "ledger": ("CreditLedger",),
    "metering": ("meter", "record"),
    "observation_tally": ("ObservationCounters", "observation_counters"),
    "usage": ("Usage", "event_id_of"),
}
if not TYPE_CHECKING:
    __getattr__ = later(__name__, _LATER)

"""The producer SDK: services report each call of a model, and are never slowed down or broken by it."""

from tokentide.producers.counters import Counters
from tokentide.producers.producer import UsageProducer
from tokentide.producers.settings import ProducerSettings

__all__ = ["Counters", "ProducerSettings", "UsageProducer"]

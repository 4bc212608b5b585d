"""The embedded Kafka: real Apache Kafka without Docker and without an installed Java."""

from tokentide.console.kafka.cluster import KafkaCluster
from tokentide.console.kafka.foreground import run
from tokentide.console.kafka.jars import cache_directory, ensure_jars

__all__ = ["KafkaCluster", "cache_directory", "ensure_jars", "run"]

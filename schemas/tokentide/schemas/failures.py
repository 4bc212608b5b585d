"""What each error code of ClickHouse and Kafka means for us: one list, held against docs/troubleshooting.md.

ClickHouse's names and numbers are those of its `system.errors`, Kafka's those of librdkafka (`KafkaError`; numbers
below zero are its own, the others the protocol's). A code that is not here stops whoever meets it.
"""

from enum import StrEnum
from typing import NamedTuple

__all__ = ["CLICKHOUSE", "KAFKA", "Failure", "Handling", "kafka_handling"]


class Handling(StrEnum):
    """What is done about a failure."""

    RETRY = "retry"
    """The same request may work later: it is sent again, with backoff and jitter."""
    DEAD_LETTER = "dead-letter"
    """A value of a row is refused: the row goes to `usage.rejected`, the others are stored."""
    STOP = "stop"
    """No retry can mend it: the process ends, commits nothing, and says what to do."""


class Failure(NamedTuple):
    """One code: its name, what is done, and for a stop what a person does, where that is known."""

    name: str
    handling: Handling
    advice: str = ""


_MIGRATE = "run `tokentide migrate`"
_PASSWORD = "set TOKENTIDE_CLICKHOUSE_USER and TOKENTIDE_CLICKHOUSE_PASSWORD"
_RIGHT = "grant user {user} the right, or set TOKENTIDE_CLICKHOUSE_USER"
_ACL = "grant the user the right on Kafka, or set TOKENTIDE_KAFKA_SASL_USERNAME"
_LOGIN = "check TOKENTIDE_KAFKA_SASL_USERNAME and TOKENTIDE_KAFKA_SASL_PASSWORD"
_TOPICS = "run `tokentide topics init`"

CLICKHOUSE: dict[int, Failure] = {
    # Busy, starting, read-only, out of memory or out of reach.
    3: Failure("UNEXPECTED_END_OF_FILE", Handling.RETRY),
    32: Failure("ATTEMPT_TO_READ_AFTER_EOF", Handling.RETRY),
    159: Failure("TIMEOUT_EXCEEDED", Handling.RETRY),
    198: Failure("DNS_ERROR", Handling.RETRY),
    201: Failure("QUOTA_EXCEEDED", Handling.RETRY),
    202: Failure("TOO_MANY_SIMULTANEOUS_QUERIES", Handling.RETRY),
    203: Failure("NO_FREE_CONNECTION", Handling.RETRY),
    209: Failure("SOCKET_TIMEOUT", Handling.RETRY),
    210: Failure("NETWORK_ERROR", Handling.RETRY),
    225: Failure("NO_ZOOKEEPER", Handling.RETRY),
    236: Failure("ABORTED", Handling.RETRY),
    241: Failure("MEMORY_LIMIT_EXCEEDED", Handling.RETRY),
    242: Failure("TABLE_IS_READ_ONLY", Handling.RETRY),
    243: Failure("NOT_ENOUGH_SPACE", Handling.RETRY),
    252: Failure("TOO_MANY_PARTS", Handling.RETRY),
    254: Failure("NO_ACTIVE_REPLICAS", Handling.RETRY),
    279: Failure("ALL_CONNECTION_TRIES_FAILED", Handling.RETRY),
    285: Failure("TOO_FEW_LIVE_REPLICAS", Handling.RETRY),
    286: Failure("UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", Handling.RETRY),
    319: Failure("UNKNOWN_STATUS_OF_INSERT", Handling.RETRY),
    394: Failure("QUERY_WAS_CANCELLED", Handling.RETRY),
    425: Failure("SYSTEM_ERROR", Handling.RETRY),
    439: Failure("CANNOT_SCHEDULE_TASK", Handling.RETRY),
    473: Failure("DEADLOCK_AVOIDED", Handling.RETRY),
    499: Failure("S3_ERROR", Handling.RETRY),
    667: Failure("NOT_INITIALIZED", Handling.RETRY),
    745: Failure("SERVER_OVERLOADED", Handling.RETRY),
    999: Failure("KEEPER_EXCEPTION", Handling.RETRY),
    # A value that a column, a constraint or a materialized view of somebody else's does not take.
    6: Failure("CANNOT_PARSE_TEXT", Handling.DEAD_LETTER),
    69: Failure("ARGUMENT_OUT_OF_BOUND", Handling.DEAD_LETTER),
    131: Failure("TOO_LARGE_STRING_SIZE", Handling.DEAD_LETTER),
    321: Failure("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", Handling.DEAD_LETTER),
    349: Failure("CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", Handling.DEAD_LETTER),
    395: Failure("FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", Handling.DEAD_LETTER),
    407: Failure("DECIMAL_OVERFLOW", Handling.DEAD_LETTER),
    469: Failure("VIOLATED_CONSTRAINT", Handling.DEAD_LETTER),
    691: Failure("UNKNOWN_ELEMENT_OF_ENUM", Handling.DEAD_LETTER),
    # A schema, a right or a password: true of every row alike.
    16: Failure("NO_SUCH_COLUMN_IN_TABLE", Handling.STOP, _MIGRATE),
    47: Failure("UNKNOWN_IDENTIFIER", Handling.STOP, _MIGRATE),
    60: Failure("UNKNOWN_TABLE", Handling.STOP, _MIGRATE),
    81: Failure("UNKNOWN_DATABASE", Handling.STOP, _MIGRATE),
    164: Failure("READONLY", Handling.STOP, _RIGHT),
    192: Failure("UNKNOWN_USER", Handling.STOP, _PASSWORD),
    193: Failure("WRONG_PASSWORD", Handling.STOP, _PASSWORD),
    194: Failure("REQUIRED_PASSWORD", Handling.STOP, _PASSWORD),
    497: Failure("ACCESS_DENIED", Handling.STOP, _RIGHT),
    516: Failure("AUTHENTICATION_FAILED", Handling.STOP, "set TOKENTIDE_CLICKHOUSE_PASSWORD"),
}
"""ClickHouse's codes, as the sink meets them."""

KAFKA: dict[int, Failure] = {
    # A broker that is away, a leader or coordinator on the move, a topic that was just made.
    -198: Failure("_BAD_COMPRESSION", Handling.STOP, "a record is damaged: check the broker's disk"),
    -195: Failure("_TRANSPORT", Handling.RETRY),
    -193: Failure("_RESOLVE", Handling.RETRY),
    -187: Failure("_ALL_BROKERS_DOWN", Handling.RETRY),
    -185: Failure("_TIMED_OUT", Handling.RETRY),
    -181: Failure("_SSL", Handling.STOP, "check TOKENTIDE_KAFKA_SSL_CA_LOCATION"),
    -180: Failure("_WAIT_COORD", Handling.RETRY),
    -169: Failure("_AUTHENTICATION", Handling.STOP, _LOGIN),
    -150: Failure("_FATAL", Handling.STOP, "start again"),
    -140: Failure("_AUTO_OFFSET_RESET", Handling.STOP, "retention was faster: start again"),
    1: Failure("OFFSET_OUT_OF_RANGE", Handling.STOP, "retention was faster: start again"),
    2: Failure("INVALID_MSG", Handling.STOP, "a record is damaged: check the broker's disk"),
    3: Failure("UNKNOWN_TOPIC_OR_PART", Handling.RETRY),
    5: Failure("LEADER_NOT_AVAILABLE", Handling.RETRY),
    6: Failure("NOT_LEADER_FOR_PARTITION", Handling.RETRY),
    7: Failure("REQUEST_TIMED_OUT", Handling.RETRY),
    8: Failure("BROKER_NOT_AVAILABLE", Handling.RETRY),
    9: Failure("REPLICA_NOT_AVAILABLE", Handling.RETRY),
    13: Failure("NETWORK_EXCEPTION", Handling.RETRY),
    14: Failure("COORDINATOR_LOAD_IN_PROGRESS", Handling.RETRY),
    15: Failure("COORDINATOR_NOT_AVAILABLE", Handling.RETRY),
    16: Failure("NOT_COORDINATOR", Handling.RETRY),
    17: Failure("TOPIC_EXCEPTION", Handling.STOP, _TOPICS),
    29: Failure("TOPIC_AUTHORIZATION_FAILED", Handling.STOP, _ACL),
    30: Failure("GROUP_AUTHORIZATION_FAILED", Handling.STOP, _ACL),
    31: Failure("CLUSTER_AUTHORIZATION_FAILED", Handling.STOP, _ACL),
    56: Failure("KAFKA_STORAGE_ERROR", Handling.RETRY),
    58: Failure("SASL_AUTHENTICATION_FAILED", Handling.STOP, _LOGIN),
    74: Failure("FENCED_LEADER_EPOCH", Handling.RETRY),
    75: Failure("UNKNOWN_LEADER_EPOCH", Handling.RETRY),
    78: Failure("OFFSET_NOT_AVAILABLE", Handling.RETRY),
    100: Failure("UNKNOWN_TOPIC_ID", Handling.RETRY),
}
"""Kafka's codes, as whoever reads meets them; a record that is not delivered is another matter, see the document."""


def kafka_handling(code: int) -> Handling:
    """Return what a reader does about a code of librdkafka: retry until its deadline, or stop."""
    return KAFKA[code].handling if code in KAFKA else Handling.STOP

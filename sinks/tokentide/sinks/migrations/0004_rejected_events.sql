-- The records that are no usage events, from usage.rejected. Read with FINAL, or through the view `rejected`.
--
-- ORDER BY (source_topic, source_partition, source_offset): where the refused record stands in Kafka names it.
-- version = 2^64 - 1 - kafka_offset: the FIRST occurrence in usage.rejected wins.
-- PARTITION BY month of the record's own timestamp, which is the same in every repeat, so all versions of a key
--   share a partition; a flood of rejects can be dropped by the month.
CREATE TABLE IF NOT EXISTS rejected_events
(
    schema_version UInt8,
    source_topic LowCardinality(String),
    source_partition UInt32,
    source_offset UInt64,
    timestamp DateTime64(6, 'UTC'),
    reason String CODEC(ZSTD(1)),
    key Nullable(String) CODEC(ZSTD(1)),
    value Nullable(String) CODEC(ZSTD(1)),
    kafka_partition UInt32,
    kafka_offset UInt64,
    version UInt64,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(timestamp)
ORDER BY (source_topic, source_partition, source_offset)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

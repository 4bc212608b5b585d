-- The alerts of usage.alerts. Read with FINAL, or through the view `alerts`.
--
-- ORDER BY alert_id, no PARTITION BY: an alert published again after a crash has the same id and another
--   timestamp, so nothing but the id may be in the key; alerts are few.
-- version = 2^64 - 1 - kafka_offset: the FIRST occurrence wins. Repeats are in the same partition of usage.alerts.
CREATE TABLE IF NOT EXISTS alert_events
(
    schema_version UInt8,
    alert_id String,
    timestamp DateTime64(6, 'UTC'),
    kind LowCardinality(String),
    level LowCardinality(String),
    scope LowCardinality(String),
    scope_id String CODEC(ZSTD(1)),
    period LowCardinality(String),
    period_start DateTime64(6, 'UTC'),
    period_end DateTime64(6, 'UTC'),
    budget_id Nullable(String) CODEC(ZSTD(1)),
    budget_revision Nullable(UInt64),
    threshold_pct Nullable(UInt32),
    unit LowCardinality(Nullable(String)),
    budget_limit Nullable(Decimal(38, 12)),
    used Nullable(Decimal(38, 12)),
    requests Nullable(UInt64),
    message String CODEC(ZSTD(1)),
    kafka_partition UInt32,
    kafka_offset UInt64,
    version UInt64,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY alert_id
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

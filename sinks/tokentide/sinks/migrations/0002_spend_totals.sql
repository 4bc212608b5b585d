-- The totals of usage.spend: absolute partials of one source partition each. Read with FINAL and summed over
-- source_partition, or through the views `spend_by_*`.
--
-- ORDER BY (scope, period, period_start, scope_id, source_partition): the identity of a partial; reports ask for
--   one scope and period over a range of time.
-- version = the last source offset counted in: the HIGHEST wins. A partial sent twice is a tie of equal rows, an
--   old one that comes late loses.
-- requests = the calls that the events stand for: the sum of their `requests`, not the number of events; so are
--   unpriced_requests, whose cost is missing in cost_usd.
-- PARTITION BY month of period_start: part of the key, so all versions of a key share a partition, and
--   do_not_merge_across_partitions_select_final is right.
CREATE TABLE IF NOT EXISTS spend_totals
(
    scope LowCardinality(String),
    scope_id String CODEC(ZSTD(1)),
    period LowCardinality(String),
    period_start DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    source_partition UInt32,
    version UInt64 CODEC(ZSTD(1)),
    requests UInt64 CODEC(T64, LZ4),
    input_tokens UInt64 CODEC(T64, LZ4),
    output_tokens UInt64 CODEC(T64, LZ4),
    cost_usd Decimal(38, 12) CODEC(ZSTD(1)),
    unpriced_requests UInt64 CODEC(T64, LZ4),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    INDEX by_scope_id scope_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(period_start)
ORDER BY (scope, period, period_start, scope_id, source_partition)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_age_to_force_merge_seconds = 3600;

-- Every priced call. Read with FINAL, or through the view `usage`: a replay is stored again and collapses.
--
-- ORDER BY (toDate(timestamp), event_id, source_partition) is also the key by which rows collapse:
--   * event_id: a replay of a record, and a second record with the same id, land on one key;
--   * source_partition: the meter drops repeats of an id per partition of usage.events, and totals count what
--     is left; collapsing further here would make rows and totals disagree;
--   * the day, not the moment: two observers of one call differ by milliseconds, and queries ask for days.
-- version = 2^64 - 1 - priced_offset: the FIRST occurrence in usage.priced wins, because the totals took that
--   one; a replay may be priced otherwise. Offsets are comparable: a source partition is priced into the
--   partition of usage.priced with the same number.
-- PARTITION BY month: the month follows from the day, so all versions of a key share a partition, and
--   do_not_merge_across_partitions_select_final is right. It makes FINAL cheap for months that are merged.
-- non_replicated_deduplication_window: an insert sent again with its token is dropped whole.
-- fsync: the Kafka offset is committed after the answer, so the answer must survive a power cut.
CREATE TABLE IF NOT EXISTS usage_events
(
    event_id String CODEC(ZSTD(1)),
    schema_version UInt8,
    timestamp DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),

    user_id Nullable(String) CODEC(ZSTD(1)),
    team_id LowCardinality(Nullable(String)),
    org_id LowCardinality(Nullable(String)),
    session_id Nullable(String) CODEC(ZSTD(1)),
    conversation_id Nullable(String) CODEC(ZSTD(1)),
    subscription_tier LowCardinality(Nullable(String)),
    service LowCardinality(Nullable(String)),
    environment LowCardinality(Nullable(String)),
    operation LowCardinality(Nullable(String)),
    operation_id Nullable(String) CODEC(ZSTD(1)),
    prompt_id Nullable(String) CODEC(ZSTD(1)),
    run_id Nullable(String) CODEC(ZSTD(1)),
    agent_name LowCardinality(Nullable(String)),

    api_operation LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    request_model LowCardinality(Nullable(String)),
    model_version LowCardinality(Nullable(String)),
    request_id Nullable(String) CODEC(ZSTD(1)),
    provider_created Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    system_fingerprint LowCardinality(Nullable(String)),
    service_tier LowCardinality(Nullable(String)),
    speed LowCardinality(Nullable(String)),
    region LowCardinality(Nullable(String)),
    finish_reason LowCardinality(Nullable(String)),
    processing LowCardinality(String),

    input_tokens UInt64 CODEC(T64, LZ4),
    output_tokens UInt64 CODEC(T64, LZ4),
    total_tokens UInt64 CODEC(T64, LZ4),
    cache_read_tokens UInt64 CODEC(T64, LZ4),
    cache_write_tokens UInt64 CODEC(T64, LZ4),
    cache_write_1h_tokens UInt64 CODEC(T64, LZ4),
    reasoning_tokens UInt64 CODEC(T64, LZ4),
    input_audio_tokens UInt64 CODEC(T64, LZ4),
    output_audio_tokens UInt64 CODEC(T64, LZ4),
    input_image_tokens UInt64 CODEC(T64, LZ4),
    output_image_tokens UInt64 CODEC(T64, LZ4),
    cache_audio_read_tokens UInt64 CODEC(T64, LZ4),
    audio_seconds Decimal(38, 12) CODEC(ZSTD(1)),
    input_characters UInt64 CODEC(T64, LZ4),
    images UInt64 CODEC(T64, LZ4),
    image_size LowCardinality(Nullable(String)),
    image_quality LowCardinality(Nullable(String)),
    pages UInt64 CODEC(T64, LZ4),
    web_searches UInt64 CODEC(T64, LZ4),
    tool_calls UInt64 CODEC(T64, LZ4),
    requests UInt64 CODEC(T64, LZ4),
    estimated Bool,

    stream Bool,
    latency_ms Nullable(Float64) CODEC(ZSTD(1)),
    ttft_ms Nullable(Float64) CODEC(ZSTD(1)),
    status LowCardinality(String),
    error_type LowCardinality(Nullable(String)),
    error_message Nullable(String) CODEC(ZSTD(1)),
    complexity_score Nullable(Float64) CODEC(ZSTD(1)),
    provider_cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),

    trace_id Nullable(String) CODEC(ZSTD(1)),
    span_id Nullable(String) CODEC(ZSTD(1)),
    tags Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    metadata String CODEC(ZSTD(1)),
    sdk_name LowCardinality(Nullable(String)),
    sdk_version LowCardinality(Nullable(String)),
    source LowCardinality(String),

    source_partition UInt32,
    source_offset UInt64 CODEC(Delta(8), ZSTD(1)),
    list_cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    input_cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cache_cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    output_cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    tool_cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    input_price_per_mtok Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    output_price_per_mtok Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cached_price_per_mtok Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    discount_pct Decimal(38, 12) CODEC(ZSTD(1)),
    currency LowCardinality(String),
    price_status LowCardinality(String),
    price_source LowCardinality(Nullable(String)),
    price_version LowCardinality(Nullable(String)),
    priced_model LowCardinality(Nullable(String)),
    priced_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),

    priced_partition UInt32,
    priced_offset UInt64 CODEC(Delta(8), ZSTD(1)),
    version UInt64 CODEC(Delta(8), ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),

    -- "By id" must not read the table. UUIDv7 ids grow with time, so within a day minmax prunes by the hour.
    INDEX by_timestamp timestamp TYPE minmax GRANULARITY 1,
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_team_id team_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_conversation_id conversation_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_operation_id operation_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_run_id run_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(timestamp)
ORDER BY (toDate(timestamp), event_id, source_partition)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_age_to_force_merge_seconds = 3600;

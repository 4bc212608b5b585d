-- What totals are complete up to, and what is added to them.
--
-- spend_totals: its rows are named by the adjustment too, which is empty for what a source partition counted itself.
--   `late/N` is what the event at source offset N adds to a period that was closed when it came; `audit` is what an
--   audit adds. Adjustments may be negative, so counts are signed.
-- A row without a scope is a watermark: all that stood before it in partition `scope_id` of usage.spend is complete up
--   to complete_up_to of source_partition, late events apart. Its version is that moment in Unix milliseconds. Whoever
--   reads the table itself leaves these rows out: WHERE scope != ''.
-- The key may grow by a new column only in the statement that adds it, and that column may have no DEFAULT: it is empty.
ALTER TABLE spend_totals
    ADD COLUMN IF NOT EXISTS adjustment String CODEC(ZSTD(1)) AFTER source_partition,
    MODIFY ORDER BY (scope, period, period_start, scope_id, source_partition, adjustment);

ALTER TABLE spend_totals
    ADD COLUMN IF NOT EXISTS complete_up_to Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) AFTER unpriced_requests,
    MODIFY COLUMN requests Int64 CODEC(T64, LZ4),
    MODIFY COLUMN input_tokens Int64 CODEC(T64, LZ4),
    MODIFY COLUMN output_tokens Int64 CODEC(T64, LZ4),
    MODIFY COLUMN unpriced_requests Int64 CODEC(T64, LZ4);

-- late: 1 when the day of the event was closed as it came, 2 when its month was too; there it is an adjustment.
ALTER TABLE usage_events
    ADD COLUMN IF NOT EXISTS late UInt8 DEFAULT 0 CODEC(T64, LZ4) AFTER priced_at;

ALTER TABLE alert_events
    ADD COLUMN IF NOT EXISTS complete_up_to Nullable(DateTime64(3, 'UTC')) AFTER message;

CREATE OR REPLACE VIEW usage AS
SELECT * EXCEPT (schema_version, priced_partition, priced_offset, version)
FROM usage_events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW alerts AS
SELECT * EXCEPT (schema_version, kafka_partition, kafka_offset, version)
FROM alert_events FINAL;

CREATE OR REPLACE VIEW watermarks AS
SELECT
    toUInt32(t.scope_id) AS spend_partition,
    t.source_partition AS source_partition,
    max(t.complete_up_to) AS complete_up_to
FROM spend_totals AS t
WHERE t.scope = ''
GROUP BY spend_partition, source_partition;

-- complete_up_to: the lowest watermark that has landed; NULL before the first.

CREATE OR REPLACE VIEW spend_by_user AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS user_id,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests,
    (SELECT min(w.complete_up_to) FROM watermarks AS w) AS complete_up_to
FROM spend_totals AS t FINAL
WHERE t.scope = 'user'
GROUP BY period, period_start, user_id
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW spend_by_team AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS team_id,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests,
    (SELECT min(w.complete_up_to) FROM watermarks AS w) AS complete_up_to
FROM spend_totals AS t FINAL
WHERE t.scope = 'team'
GROUP BY period, period_start, team_id
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW spend_by_org AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS org_id,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests,
    (SELECT min(w.complete_up_to) FROM watermarks AS w) AS complete_up_to
FROM spend_totals AS t FINAL
WHERE t.scope = 'org'
GROUP BY period, period_start, org_id
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW spend_by_provider AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS provider,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests,
    (SELECT min(w.complete_up_to) FROM watermarks AS w) AS complete_up_to
FROM spend_totals AS t FINAL
WHERE t.scope = 'provider'
GROUP BY period, period_start, provider
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- `model` is named provider/model.
CREATE OR REPLACE VIEW spend_by_model AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS model,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests,
    (SELECT min(w.complete_up_to) FROM watermarks AS w) AS complete_up_to
FROM spend_totals AS t FINAL
WHERE t.scope = 'model'
GROUP BY period, period_start, model
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW spend_by_operation AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS operation,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests,
    (SELECT min(w.complete_up_to) FROM watermarks AS w) AS complete_up_to
FROM spend_totals AS t FINAL
WHERE t.scope = 'operation'
GROUP BY period, period_start, operation
SETTINGS do_not_merge_across_partitions_select_final = 1;

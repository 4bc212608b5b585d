-- What people query. Each view reads with FINAL, so replays and repeats never show.
--
-- do_not_merge_across_partitions_select_final is right here: in each of these tables all versions of a key share a
-- partition (said above each table). It spares FINAL the work across months.

CREATE VIEW IF NOT EXISTS usage AS
SELECT * EXCEPT (schema_version, priced_partition, priced_offset, version)
FROM usage_events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS alerts AS
SELECT * EXCEPT (schema_version, kafka_partition, kafka_offset, version)
FROM alert_events FINAL;

CREATE VIEW IF NOT EXISTS rejected AS
SELECT * EXCEPT (schema_version, kafka_partition, kafka_offset, version)
FROM rejected_events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- From the rows, for questions that totals cannot answer. `requests` counts calls as the totals do: an event may
-- stand for several. Those of unknown price are in unpriced_requests too, and missing in cost_usd and list_cost_usd.
CREATE VIEW IF NOT EXISTS spend_daily AS
SELECT
    toDate(e.timestamp) AS day,
    e.org_id AS org_id,
    e.team_id AS team_id,
    e.provider AS provider,
    e.model AS model,
    sum(e.requests) AS requests,
    sum(e.input_tokens) AS input_tokens,
    sum(e.output_tokens) AS output_tokens,
    sum(e.total_tokens) AS total_tokens,
    sum(e.cache_read_tokens) AS cache_read_tokens,
    ifNull(sum(e.list_cost_usd), 0) AS list_cost_usd,
    ifNull(sum(e.cost_usd), 0) AS cost_usd,
    sumIf(e.requests, e.price_status = 'unpriced') AS unpriced_requests
FROM usage_events AS e FINAL
GROUP BY day, org_id, team_id, provider, model
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- From the totals: one row an entity and period, exact as soon as the meter published it.

CREATE VIEW IF NOT EXISTS spend_by_user AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS user_id,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests
FROM spend_totals AS t FINAL
WHERE t.scope = 'user'
GROUP BY period, period_start, user_id
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS spend_by_team AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS team_id,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests
FROM spend_totals AS t FINAL
WHERE t.scope = 'team'
GROUP BY period, period_start, team_id
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS spend_by_org AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS org_id,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests
FROM spend_totals AS t FINAL
WHERE t.scope = 'org'
GROUP BY period, period_start, org_id
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS spend_by_provider AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS provider,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests
FROM spend_totals AS t FINAL
WHERE t.scope = 'provider'
GROUP BY period, period_start, provider
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- `model` is named provider/model.
CREATE VIEW IF NOT EXISTS spend_by_model AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS model,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests
FROM spend_totals AS t FINAL
WHERE t.scope = 'model'
GROUP BY period, period_start, model
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS spend_by_operation AS
SELECT
    t.period AS period,
    t.period_start AS period_start,
    t.scope_id AS operation,
    sum(t.requests) AS requests,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.input_tokens + t.output_tokens) AS total_tokens,
    sum(t.cost_usd) AS cost_usd,
    sum(t.unpriced_requests) AS unpriced_requests
FROM spend_totals AS t FINAL
WHERE t.scope = 'operation'
GROUP BY period, period_start, operation
SETTINGS do_not_merge_across_partitions_select_final = 1;

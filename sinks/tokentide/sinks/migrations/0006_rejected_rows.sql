-- A row that ClickHouse refused is a rejection too: of usage.priced, usage.spend or usage.alerts.
--
-- source_row names it within its record: in usage.priced the offset of its event in usage.events, else its number; 0
--   for a whole record. It joins the key, for many rows of one record may be refused.
-- The key may grow by a new column only in the statement that adds it.
ALTER TABLE rejected_events
    ADD COLUMN IF NOT EXISTS source_row UInt64 AFTER source_offset,
    MODIFY ORDER BY (source_topic, source_partition, source_offset, source_row);

CREATE OR REPLACE VIEW rejected AS
SELECT * EXCEPT (schema_version, kafka_partition, kafka_offset, version)
FROM rejected_events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- Everything, as it came. Nothing is dropped, nothing is changed: what silver cannot read is still here.
CREATE MATERIALIZED VIEW bronze.events
PARTITIONED BY (arrival_date)
COMMENT 'Every record as it arrived, byte for byte.'
WITH (target_lag = '5 seconds')
AS SELECT
  *,
  CAST(_arrived_at AS DATE) AS arrival_date
FROM raw.events;

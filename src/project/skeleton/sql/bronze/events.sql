-- Everything, as it came: nothing is lost to a mistake further up.
CREATE MATERIALIZED VIEW bronze.events
COMMENT 'Every record as it came.'
AS SELECT * FROM raw.events;

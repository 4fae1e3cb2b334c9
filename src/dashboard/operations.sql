-- What the operators' page shows, of system.*; times in milliseconds, the newest first.

-- name: views
SELECT
  view_name, mode, reason, version, "rows", frontier, target_lag_ms, suspended, duplicates, dropped, quarantined
FROM system.materialized_views
ORDER BY view_name;

-- name: refreshes
SELECT view_name, epoch, mode, reason, state, published_at, took_ms, rows_in, rows_out, bytes_written, error
FROM system.refreshes
WHERE mode <> 'nothing' OR state = 'failed'
ORDER BY epoch DESC, view_name
LIMIT 60;

-- name: expectations
SELECT
  view_name, expectation, action, CAST(sum(violations) AS BIGINT) AS violations, CAST(sum(removed) AS BIGINT) AS removed,
  max(epoch) FILTER (WHERE violations > 0) AS last_epoch
FROM system.expectations
GROUP BY view_name, expectation, action
ORDER BY violations DESC, view_name, expectation;

-- name: shards
SELECT source_name, shard_id, position, behind_ms, as_of
FROM system.shards
ORDER BY behind_ms DESC, source_name, shard_id
LIMIT 200;

-- name: data_loss
SELECT source_name, shard_id, after_position, next_position, reason, found_at
FROM system.data_loss
ORDER BY found_at DESC
LIMIT 20;

-- name: errors
SELECT view_name, epoch, published_at, error
FROM system.refreshes
WHERE state = 'failed'
ORDER BY epoch DESC
LIMIT 20;

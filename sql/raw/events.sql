-- Where the store's events come from: one JSON object a record.
-- The columns are the source's own: _stream, _shard_id, _sequence_number, _sub_sequence, _partition_key,
-- _arrived_at, _payload, _error.
CREATE EXTERNAL TABLE raw.events
STORED AS KINESIS
LOCATION 'kinesis://ap-south-1/E_com'
OPTIONS ('start' 'trim_horizon');

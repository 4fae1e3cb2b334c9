-- Where events come from: one JSON object a line, in the files of a folder, seen from where flash runs.
-- A stream in its place: STORED AS KINESIS LOCATION 'kinesis://ap-south-1/orders' OPTIONS ('start' 'trim_horizon')
CREATE EXTERNAL TABLE raw.events
STORED AS JSONL
LOCATION 'events';

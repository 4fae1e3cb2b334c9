-- The cities that the store delivers to, and where they lie.
CREATE EXTERNAL TABLE ref.cities (
  name      VARCHAR,
  state     VARCHAR,
  latitude  DOUBLE,
  longitude DOUBLE
)
STORED AS CSV
LOCATION 'cities.csv';

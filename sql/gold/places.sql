-- Where cities lie, for everybody who may read gold.
CREATE MATERIALIZED VIEW gold.places
COMMENT 'Cities with their states and coordinates in degrees.'
WITH (target_lag = '5 seconds')
AS SELECT
  name AS city,
  state,
  latitude,
  longitude
FROM ref.cities;

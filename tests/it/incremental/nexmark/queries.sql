-- The queries of Nexmark that have a meaning over tables, as views. Tumbling windows are date_bin; a hopping window is
-- the tumbling windows it covers, sessions are found with lag(). Prices are whole cents, so that sums are exact.

-- q00
SELECT auction, bidder, price, date_time, extra FROM nex.bid;

-- q01
SELECT auction, bidder, CAST(price AS DECIMAL(18,0)) * CAST(0.908 AS DECIMAL(4,3)) AS price, date_time, extra
FROM nex.bid;

-- q02
SELECT auction, price FROM nex.bid WHERE auction % 3 = 0;

-- q03
SELECT p.name, p.city, p.state, a.id
FROM nex.auction AS a INNER JOIN nex.person AS p ON a.seller = p.id
WHERE a.category = 10 AND (p.state = 'OR' OR p.state = 'ID' OR p.state = 'CA');

-- q04
SELECT q.category, avg(q.final) AS mean
FROM (
  SELECT max(b.price) AS final, a.category
  FROM nex.auction AS a, nex.bid AS b
  WHERE a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category
) AS q
GROUP BY q.category;

-- q05
WITH slices AS (
  SELECT auction, date_bin(INTERVAL '2 minutes', date_time, TIMESTAMP '2026-01-01 00:00:00') AS slice, count(*) AS num
  FROM nex.bid GROUP BY 1, 2),
windows AS (
  SELECT s.auction, s.slice + h.shift AS window_end, sum(s.num) AS num
  FROM slices AS s CROSS JOIN (
    SELECT INTERVAL '2 minutes' AS shift UNION ALL SELECT INTERVAL '4 minutes' UNION ALL SELECT INTERVAL '6 minutes'
  ) AS h
  GROUP BY s.auction, s.slice + h.shift)
SELECT w.auction, w.num, w.window_end
FROM windows AS w
INNER JOIN (SELECT max(num) AS most, window_end FROM windows GROUP BY window_end) AS m
  ON w.window_end = m.window_end AND w.num >= m.most;

-- q06
SELECT seller, id, avg(final) OVER (PARTITION BY seller ORDER BY closed, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
         AS mean
FROM (
  SELECT a.seller, a.id, max(b.price) AS final, max(b.date_time) AS closed
  FROM nex.auction AS a, nex.bid AS b
  WHERE a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.seller, a.id
) AS won;

-- q07
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM nex.bid AS b
INNER JOIN (
  SELECT max(price) AS most, date_bin(INTERVAL '5 minutes', date_time, TIMESTAMP '2026-01-01 00:00:00') AS slice
  FROM nex.bid GROUP BY 2
) AS m
  ON b.price = m.most AND date_bin(INTERVAL '5 minutes', b.date_time, TIMESTAMP '2026-01-01 00:00:00') = m.slice;

-- q08
SELECT p.id, p.name, p.slice
FROM (
  SELECT id, name, date_bin(INTERVAL '10 minutes', date_time, TIMESTAMP '2026-01-01 00:00:00') AS slice
  FROM nex.person GROUP BY 1, 2, 3
) AS p
INNER JOIN (
  SELECT seller, date_bin(INTERVAL '10 minutes', date_time, TIMESTAMP '2026-01-01 00:00:00') AS slice
  FROM nex.auction GROUP BY 1, 2
) AS a ON p.id = a.seller AND p.slice = a.slice;

-- q09
SELECT id, item_name, category, auction, bidder, price, bid_time
FROM (
  SELECT a.id, a.item_name, a.category, b.auction, b.bidder, b.price, b.date_time AS bid_time,
         row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder) AS place
  FROM nex.auction AS a, nex.bid AS b
  WHERE a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
) AS ranked
WHERE place = 1;

-- q11
WITH marked AS (
  SELECT bidder, date_time,
         CASE WHEN date_time - lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) <= INTERVAL '2 minutes'
              THEN 0 ELSE 1 END AS starts
  FROM nex.bid),
numbered AS (
  SELECT bidder, date_time, sum(starts) OVER (PARTITION BY bidder ORDER BY date_time) AS session FROM marked)
SELECT bidder, session, count(*) AS bid_count, min(date_time) AS start_time, max(date_time) AS end_time
FROM numbered GROUP BY bidder, session;

-- q12
SELECT bidder, count(*) AS bid_count, date_bin(INTERVAL '10 minutes', date_time, TIMESTAMP '2026-01-01 00:00:00') AS slice
FROM nex.bid GROUP BY bidder, date_bin(INTERVAL '10 minutes', date_time, TIMESTAMP '2026-01-01 00:00:00');

-- q13
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM nex.bid AS b INNER JOIN nex.side_input AS s ON b.auction % 7 = s.key;

-- q14
SELECT auction, bidder, price * 908 AS milli_euro,
       CASE WHEN date_part('hour', date_time) >= 8 AND date_part('hour', date_time) <= 18 THEN 'day'
            WHEN date_part('hour', date_time) <= 6 OR date_part('hour', date_time) >= 20 THEN 'night'
            ELSE 'other' END AS bid_time_type,
       date_time, length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM nex.bid
WHERE price * 908 > 1000000 AND price * 908 < 50000000;

-- q15
SELECT date_trunc('day', date_time) AS day, count(*) AS total_bids,
       count(*) FILTER (WHERE price < 10000) AS rank1_bids,
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
       count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
       count(DISTINCT bidder) AS total_bidders,
       count(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
       count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
       count(DISTINCT auction) AS total_auctions,
       count(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions
FROM nex.bid GROUP BY date_trunc('day', date_time);

-- q16
SELECT channel, date_trunc('day', date_time) AS day, max(date_trunc('minute', date_time)) AS minute,
       count(*) AS total_bids, count(*) FILTER (WHERE price < 10000) AS rank1_bids,
       count(DISTINCT bidder) AS total_bidders,
       count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
       count(DISTINCT auction) AS total_auctions
FROM nex.bid GROUP BY channel, date_trunc('day', date_time);

-- q17
SELECT auction, date_trunc('day', date_time) AS day, count(*) AS total_bids,
       count(*) FILTER (WHERE price < 10000) AS rank1_bids,
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
       min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
FROM nex.bid GROUP BY auction, date_trunc('day', date_time);

-- q18
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price DESC, channel, url, extra)
              AS place
  FROM nex.bid
) AS ranked
WHERE place <= 1;

-- q19
SELECT auction, bidder, price, date_time, place
FROM (
  SELECT auction, bidder, price, date_time,
         row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder) AS place
  FROM nex.bid
) AS ranked
WHERE place <= 3;

-- q20
SELECT b.auction, b.bidder, b.price, b.channel, b.date_time, a.item_name, a.initial_bid, a.seller, a.category
FROM nex.bid AS b INNER JOIN nex.auction AS a ON b.auction = a.id
WHERE a.category = 10;

-- q21
SELECT auction, bidder, price, channel,
       CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2'
            ELSE split_part(url, 'channel_id=', 2) END AS channel_id
FROM nex.bid
WHERE lower(channel) IN ('apple', 'google', 'facebook') OR url LIKE '%channel_id=%';

-- q22
SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
       split_part(url, '/', 6) AS dir3
FROM nex.bid;

#!/usr/bin/env python3
"""The queries of TPC-H and Nexmark as views: what following a change costs, against recomputing the view.

    benches/public.py                         150,000 orders with 600,000 lines; 460,000 bids
    benches/public.py --scale 0.1             a tenth of that
    benches/public.py --only tpch.q03,nex.q05

    tables ─▶ for each query, alone: CREATE ─▶ insert, update, delete ─▶ took_ms of each refresh     in one process
                                            └▶ REFRESH ... FULL       ─▶ took_ms of a recompute
              AUDIT: what the view holds is what its query gives

Prints Markdown. The queries are those that the tests keep.
"""

import argparse
import os
import shutil
import sys
import tempfile

from peers import setup
from refresh import Lake

QUERIES = os.path.join(setup.REPOSITORY, "tests", "it", "incremental")


def pick(salt, *values):
    """One of these texts, by the row's number."""
    texts = ", ".join(f"'{value}'" for value in values)
    return f"make_array({texts})[{number(salt, len(values))} + 1]"


def number(salt, below):
    """A number from 0 on, by the row's number: spread well enough, and the same on every run."""
    return f"((value * 7919 + {salt} * 104729) % 1000003 * 31 % {below})"


def money(salt, below):
    return f"CAST({number(salt, below * 100)} / 100.0 AS DECIMAL(15, 2))"


def date(salt, first, days):
    return f"CAST(DATE '{first}' + CAST({number(salt, days)} AS INT) AS DATE)"


def integer(expression):
    return f"CAST({expression} AS INT)"


NATIONS = (
    "ALGERIA ARGENTINA BRAZIL CANADA EGYPT ETHIOPIA FRANCE GERMANY INDIA INDONESIA IRAN IRAQ JAPAN JORDAN KENYA MOROCCO "
    "MOZAMBIQUE PERU CHINA ROMANIA SAUDI_ARABIA VIETNAM RUSSIA UNITED_KINGDOM UNITED_STATES"
).replace("_", "-").split()
REGIONS = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]


def texts(values):
    return "make_array(" + ", ".join("'" + value.replace("-", " ") + "'" for value in values) + ")[value + 1]"


class Tpch:
    name = "tpch"

    def __init__(self, scale):
        self.orders = int(150_000 * scale)
        self.customers, self.parts, self.suppliers = (int(n * scale) for n in (15_000, 20_000, 1_000))
        self.changed = max(self.orders // 1000, 1)

    def orders_of(self, first, last):
        return (
            f"SELECT {integer('value')} AS o_orderkey, {integer(number(1, self.customers) + ' / 3 * 3 + 1')} AS o_custkey, "
            f"{pick(2, 'F', 'F', 'O')} AS o_orderstatus, {money(3, 90_000)} AS o_totalprice, "
            f"{date(4, '1994-01-01', 700)} AS o_orderdate, "
            f"{pick(5, '1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW')} AS o_orderpriority, "
            f"'Clerk#' || value % 100 AS o_clerk, 0 AS o_shippriority, "
            f"{pick(6, 'none', 'some special quick requests', 'as usual')} AS o_comment "
            f"FROM generate_series({first}, {last}) AS g(value)"
        )

    def lines_of(self, first, last):
        ship = date(10, "1994-01-02", 790)
        return (
            f"SELECT {integer('value / 4')} AS l_orderkey, {integer(number(7, self.parts) + ' + 1')} AS l_partkey, "
            f"{integer(number(8, self.suppliers) + ' + 1')} AS l_suppkey, {integer('value % 4 + 1')} AS l_linenumber, "
            f"CAST({number(9, 50)} + 1 AS DECIMAL(15, 2)) AS l_quantity, {money(11, 50_000)} AS l_extendedprice, "
            f"CAST({number(12, 11)} / 100.0 AS DECIMAL(15, 2)) AS l_discount, CAST(0.02 AS DECIMAL(15, 2)) AS l_tax, "
            f"{pick(13, 'R', 'A', 'N')} AS l_returnflag, {pick(14, 'O', 'F')} AS l_linestatus, {ship} AS l_shipdate, "
            f"{date(15, '1994-02-01', 790)} AS l_commitdate, CAST({ship} + {integer(number(16, 30) + ' + 1')} AS DATE) AS l_receiptdate, "
            f"{pick(17, 'DELIVER IN PERSON', 'COLLECT COD', 'NONE')} AS l_shipinstruct, "
            f"{pick(18, 'AIR', 'AIR REG', 'MAIL', 'SHIP')} AS l_shipmode, 'none' AS l_comment "
            f"FROM generate_series({4 * first}, {4 * last + 3}) AS g(value)"
        )

    def tables(self):
        return {
            "region": f"SELECT {integer('value')} AS r_regionkey, {texts(REGIONS)} AS r_name, '' AS r_comment "
            "FROM generate_series(0, 4) AS g(value)",
            "nation": f"SELECT {integer('value')} AS n_nationkey, {texts(NATIONS)} AS n_name, "
            f"{integer('make_array(0,1,1,1,4,0,3,3,2,2,4,4,2,4,0,0,0,1,2,3,4,2,3,3,1)[value + 1]')} AS n_regionkey, '' AS n_comment "
            "FROM generate_series(0, 24) AS g(value)",
            "supplier": f"SELECT {integer('value')} AS s_suppkey, 'Supplier#' || value AS s_name, 'street' AS s_address, "
            f"{integer(number(1, 25))} AS s_nationkey, '10-' || value AS s_phone, {money(2, 9_000)} AS s_acctbal, "
            f"{pick(3, 'none', 'quick', 'Customer x Complaints')} AS s_comment FROM generate_series(1, {self.suppliers}) AS g(value)",
            "customer": f"SELECT {integer('value')} AS c_custkey, 'Customer#' || value AS c_name, 'road' AS c_address, "
            f"{integer(number(4, 25))} AS c_nationkey, {number(5, 25)} + 10 || '-' || value AS c_phone, {money(6, 9_000)} AS c_acctbal, "
            f"{pick(7, 'BUILDING', 'AUTOMOBILE', 'MACHINERY', 'HOUSEHOLD', 'FURNITURE')} AS c_mktsegment, 'none' AS c_comment "
            f"FROM generate_series(1, {self.customers}) AS g(value)",
            "part": f"SELECT {integer('value')} AS p_partkey, "
            f"{pick(8, 'forest green', 'forest blue', 'light green', 'rose white')} || value AS p_name, "
            f"'Mfgr#' || value % 5 AS p_mfgr, {pick(9, 'Brand#12', 'Brand#23', 'Brand#34', 'Brand#45')} AS p_brand, "
            f"{pick(10, 'ECONOMY ANODIZED STEEL', 'PROMO BURNISHED BRASS', 'STANDARD POLISHED BRASS', 'MEDIUM POLISHED TIN')} AS p_type, "
            f"{integer(number(11, 50) + ' + 1')} AS p_size, {pick(12, 'SM CASE', 'MED BOX', 'LG BOX', 'MED BAG')} AS p_container, "
            f"{money(13, 2_000)} AS p_retailprice, 'none' AS p_comment FROM generate_series(1, {self.parts}) AS g(value)",
            "partsupp": f"SELECT {integer('value / 4 + 1')} AS ps_partkey, "
            f"{integer(f'(value / 4 + value % 4 * {self.suppliers // 4}) % {self.suppliers} + 1')} AS ps_suppkey, "
            f"{integer(number(14, 9_999) + ' + 1')} AS ps_availqty, {money(15, 1_000)} AS ps_supplycost, 'none' AS ps_comment "
            f"FROM generate_series(0, {4 * self.parts - 1}) AS g(value)",
            "orders": self.orders_of(1, self.orders),
            "lineitem": self.lines_of(1, self.orders),
        }

    def changes(self, turn):
        first = self.orders + 1 + turn * self.changed
        last = first + self.changed - 1
        changed = turn * self.changed + 1
        between = f"BETWEEN {changed} AND {changed + self.changed - 1}"
        return {
            "insert": [
                f"INSERT INTO tpch.orders {self.orders_of(first, last)}",
                f"INSERT INTO tpch.lineitem {self.lines_of(first, last)}",
            ],
            "update": [f"UPDATE tpch.lineitem SET l_quantity = l_quantity + 1 WHERE l_orderkey {between}"],
            "delete": [
                f"DELETE FROM tpch.lineitem WHERE l_orderkey {between}",
                f"DELETE FROM tpch.orders WHERE o_orderkey {between}",
            ],
        }


class Nexmark:
    name = "nex"

    def __init__(self, scale):
        self.bids = int(460_000 * scale)
        self.changed = max(self.bids // 1000, 1)

    def bids_of(self, first, last):
        auctions = self.bids * 3 // 46
        return (
            f"SELECT value * 3 / 46 - {number(1, 100)} % (value * 3 / 46 + 1) AS auction, {number(2, max(auctions // 3, 1))} AS bidder, "
            f"make_array({number(3, 9_000)}, {number(4, 60_000)}, 900000 + {number(5, 200_000)})[value % 3 + 1] + 100 AS price, "
            f"{pick(6, 'Google', 'Apple', 'Facebook', 'channel-7', 'channel-9')} AS channel, "
            f"{pick(7, 'https://x.org/a/b/item.htm?query=1', 'https://x.org/c/d/item.htm?query=1&channel_id=77')} AS url, "
            f"{self.time('value / 50')} AS date_time, {pick(8, 'abc', 'cccab', '')} AS extra "
            f"FROM generate_series({first}, {last}) AS g(value)"
        )

    @staticmethod
    def time(second):
        return f"CAST(to_timestamp_seconds(1767249000 + {second}) AS TIMESTAMP)"

    def tables(self):
        auctions, persons = self.bids * 3 // 46, self.bids // 46
        return {
            "person": f"SELECT value AS id, 'person ' || value AS name, 'p@x.org' AS email, '1234' AS credit_card, "
            f"{pick(1, 'Portland', 'Boise', 'Phoenix')} AS city, {pick(2, 'OR', 'ID', 'CA', 'WA', 'AZ')} AS state, "
            f"{self.time('value')} AS date_time, '' AS extra FROM generate_series(0, {persons - 1}) AS g(value)",
            "auction": f"SELECT value AS id, 'item ' || value AS item_name, '' AS description, {number(3, 100)} AS initial_bid, "
            f"{number(4, 1_000)} AS reserve, {self.time('value / 3')} AS date_time, "
            f"{self.time('value / 3 + 30 + ' + number(5, 400))} AS expires, {number(6, persons)} AS seller, "
            f"10 + {number(7, 3)} AS category, '' AS extra FROM generate_series(0, {auctions - 1}) AS g(value)",
            "side_input": "SELECT value AS key, 'side ' || value AS value FROM generate_series(0, 4) AS g(value)",
            "bid": self.bids_of(0, self.bids - 1),
        }

    def changes(self, turn):
        first = self.bids + turn * self.changed
        moment = f"TIMESTAMP '2026-01-01 06:30:00' + INTERVAL '{{}} seconds'"
        seconds = max(self.changed // 50, 1)
        start = moment.format(turn * seconds)
        between = f"date_time >= {start} AND date_time < {moment.format((turn + 1) * seconds)}"
        return {
            "insert": [f"INSERT INTO nex.bid {self.bids_of(first, first + self.changed - 1)}"],
            "update": [f"UPDATE nex.bid SET price = price + 5000 WHERE {between}"],
            "delete": [f"DELETE FROM nex.bid WHERE {between}"],
        }


def queries(folder):
    blocks = open(os.path.join(QUERIES, folder, "queries.sql")).read().split("\n-- ")[1:]
    blocks = [block for block in blocks if ";" in block]
    return {block.split("\n", 1)[0].strip(): block.split("\n", 1)[1].strip().rstrip(";") for block in blocks}


def measure(lake, suite, name, query, turn):
    """took_ms by kind of change, of a recompute, and the modes; or why it is refused."""
    view = f"g.{suite.name}_{name}"
    changes = suite.changes(turn)
    statements = [text for texts in changes.values() for text in texts]
    before = lake.epoch()
    try:
        lines = lake.sql(
            "; ".join([
                f"CREATE MATERIALIZED VIEW {view} AS {query}",
                *statements,
                f"REFRESH MATERIALIZED VIEW {view} FULL",
                "SELECT epoch, mode, took_ms, error FROM system.refreshes "
                f"WHERE view_name = '{view}' AND epoch > {before} ORDER BY epoch",
            ])
        )
    except SystemExit as error:
        text = str(error)
        if "NOT IN" in text:
            return None
        raise
    failed = [line for line in lines if line["error"]]
    if failed or len(lines) != len(statements) + 2:
        raise SystemExit(f"{view}: {lines}")
    audit = lake.sql(f"AUDIT MATERIALIZED VIEW {view}")[0]
    if audit["missing"] or audit["unexpected"]:
        raise SystemExit(f"{view}: {audit}")
    lake.sql(f"DROP MATERIALIZED VIEW {view}")
    followed = iter(lines[1:-1])
    took = {kind: [next(followed) for _ in texts] for kind, texts in changes.items()}
    modes = {line["mode"] for line in lines[1:-1]} - {"nothing"}
    return {kind: sum(line["took_ms"] for line in lines) for kind, lines in took.items()} | {
        "modes": ", ".join(sorted(modes)),
        "full": lines[-1]["took_ms"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="some of them: tpch.q03,nex.q05")
    parser.add_argument("--flash", default=setup.flash_binary())
    chosen = parser.parse_args()
    only = set(filter(None, chosen.only.split(",")))
    for suite, folder in ((Tpch(chosen.scale), "tpch"), (Nexmark(chosen.scale), "nexmark")):
        wanted = {name: query for name, query in queries(folder).items() if not only or f"{suite.name}.{name}" in only}
        if not wanted:
            continue
        place = tempfile.mkdtemp(prefix="flash-public-")
        try:
            lake = Lake(chosen.flash, place)
            for table, query in suite.tables().items():
                lake.sql(f"CREATE TABLE {suite.name}.{table} AS {query}")
            print(f"\n| {folder} | kept by | insert ms | update ms | delete ms | recompute ms | a change costs |")
            print("|---|---|--:|--:|--:|--:|--:|", flush=True)
            for turn, (name, query) in enumerate(wanted.items()):
                row(name, measure(lake, suite, name, query, turn))
        finally:
            shutil.rmtree(place, ignore_errors=True)


def row(name, found):
    if found is None:
        print(f"| {name} | refused: NOT IN | | | | | |", flush=True)
        return
    statements = {"insert", "update", "delete"}
    mean = sum(found[kind] for kind in statements) / len(statements)
    share = f"{mean / found['full']:.2f} of it" if found["full"] else ""
    cells = [name, found["modes"], *(found[kind] for kind in ("insert", "update", "delete", "full")), share]
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())

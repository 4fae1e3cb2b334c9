//! A TPC-H data set of a few hundred rows, from a seed. Values repeat often enough for most queries to give rows.
//!
//! ```text
//!   region 5 ─ nation 25 ─┬─ supplier 10 ─ partsupp 60 ─ part 20
//!                         └─ customer 24 ─ orders, each with 1 to 6 lineitems; a third of the customers orders nothing
//! ```

use fastrand::Rng;

pub const TABLES: [&str; 8] = [
    "CREATE TABLE tpch.region (r_regionkey INT, r_name VARCHAR, r_comment VARCHAR)",
    "CREATE TABLE tpch.nation (n_nationkey INT, n_name VARCHAR, n_regionkey INT, n_comment VARCHAR)",
    "CREATE TABLE tpch.supplier (s_suppkey INT, s_name VARCHAR, s_address VARCHAR, s_nationkey INT, s_phone VARCHAR,
       s_acctbal DECIMAL(15,2), s_comment VARCHAR)",
    "CREATE TABLE tpch.customer (c_custkey INT, c_name VARCHAR, c_address VARCHAR, c_nationkey INT, c_phone VARCHAR,
       c_acctbal DECIMAL(15,2), c_mktsegment VARCHAR, c_comment VARCHAR)",
    "CREATE TABLE tpch.part (p_partkey INT, p_name VARCHAR, p_mfgr VARCHAR, p_brand VARCHAR, p_type VARCHAR,
       p_size INT, p_container VARCHAR, p_retailprice DECIMAL(15,2), p_comment VARCHAR)",
    "CREATE TABLE tpch.partsupp (ps_partkey INT, ps_suppkey INT, ps_availqty INT, ps_supplycost DECIMAL(15,2),
       ps_comment VARCHAR)",
    "CREATE TABLE tpch.orders (o_orderkey INT, o_custkey INT, o_orderstatus VARCHAR, o_totalprice DECIMAL(15,2),
       o_orderdate DATE, o_orderpriority VARCHAR, o_clerk VARCHAR, o_shippriority INT, o_comment VARCHAR)",
    "CREATE TABLE tpch.lineitem (l_orderkey INT, l_partkey INT, l_suppkey INT, l_linenumber INT,
       l_quantity DECIMAL(15,2), l_extendedprice DECIMAL(15,2), l_discount DECIMAL(15,2), l_tax DECIMAL(15,2),
       l_returnflag VARCHAR, l_linestatus VARCHAR, l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE,
       l_shipinstruct VARCHAR, l_shipmode VARCHAR, l_comment VARCHAR)",
];

const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];

/// Names in the order of their keys, with the region's key.
const NATIONS: [(&str, usize); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];

/// The nations that queries ask for.
const ASKED: [usize; 6] = [6, 7, 20, 3, 2, 8];

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(0..of.len())]
}

fn money(rng: &mut Rng, range: std::ops::Range<i64>) -> String {
    let cents = rng.i64(range.start * 100..range.end * 100);
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

fn date(day: i64) -> String {
    let start = chrono::NaiveDate::from_ymd_opt(1994, 1, 1).unwrap();
    format!("DATE '{}'", start + chrono::TimeDelta::days(day))
}

fn insert(table: &str, rows: &[String]) -> String {
    format!("INSERT INTO tpch.{table} VALUES ({})", rows.join("), ("))
}

/// Regions, nations, suppliers, customers, parts and who supplies them.
pub fn dimensions(rng: &mut Rng) -> Vec<String> {
    let regions = REGIONS.iter().enumerate().map(|(key, name)| format!("{key}, '{name}', NULL"));
    let nations = NATIONS.iter().enumerate().map(|(key, (name, region))| format!("{key}, '{name}', {region}, NULL"));
    let (regions, nations) = (regions.collect::<Vec<_>>(), nations.collect::<Vec<_>>());
    let suppliers = (1..=10).map(|key| supplier(rng, key)).collect::<Vec<_>>();
    let customers = (1..=24).map(|key| customer(rng, key)).collect::<Vec<_>>();
    let parts = (1..=20).map(|key| part(rng, key)).collect::<Vec<_>>();
    let offers = (0..60).map(|n| partsupp(rng, n / 3 + 1, (n / 3 + n % 3 * 3) % 10 + 1)).collect::<Vec<_>>();
    vec![
        insert("region", &regions),
        insert("nation", &nations),
        insert("supplier", &suppliers),
        insert("customer", &customers),
        insert("part", &parts),
        insert("partsupp", &offers),
    ]
}

pub fn supplier(rng: &mut Rng, key: usize) -> String {
    let nation = ASKED[key % 5];
    let comment = if key == 4 { "'Customer x Complaints'" } else { "NULL" };
    let balance = money(rng, -500..9000);
    format!("{key}, 'Supplier#{key}', 'street {key}', {nation}, '{}-{key}', {balance}, {comment}", nation + 10)
}

pub fn customer(rng: &mut Rng, key: usize) -> String {
    let nation = ASKED[rng.usize(0..6)];
    let segment = one(rng, &["BUILDING", "BUILDING", "AUTOMOBILE", "MACHINERY"]);
    let balance = money(rng, -500..9000);
    format!("{key}, 'Customer#{key}', 'road {key}', {nation}, '{}-{key}', {balance}, '{segment}', 'none'", nation + 10)
}

pub fn part(rng: &mut Rng, key: usize) -> String {
    let name = one(rng, &["forest green", "forest blue", "light green", "rose white"]);
    let brand = one(rng, &["Brand#12", "Brand#23", "Brand#23", "Brand#34", "Brand#45"]);
    let kind = one(
        rng,
        &["ECONOMY ANODIZED STEEL", "PROMO BURNISHED BRASS", "STANDARD POLISHED BRASS", "MEDIUM POLISHED TIN"],
    );
    let size = one(rng, &["15", "15", "5", "23", "9", "40"]);
    let container = one(rng, &["SM CASE", "MED BOX", "MED BOX", "LG BOX", "MED BAG"]);
    let price = money(rng, 900..1100);
    format!("{key}, '{name} {key}', 'Mfgr#{}', '{brand}', '{kind}', {size}, '{container}', {price}, NULL", key % 5)
}

pub fn partsupp(rng: &mut Rng, part: usize, supplier: usize) -> String {
    format!("{part}, {supplier}, {}, {}, NULL", rng.u32(1..120), money(rng, 10..100))
}

/// Orders of these keys with their lines, as two statements.
pub fn orders(rng: &mut Rng, keys: std::ops::Range<usize>) -> Vec<String> {
    let (mut orders, mut lines) = (Vec::new(), Vec::new());
    for key in keys {
        let customer = rng.usize(0..8) * 3 + 1 + rng.usize(0..2);
        let day = rng.i64(0..700);
        let status = one(rng, &["F", "F", "O"]);
        let priority = one(rng, &["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]);
        let comment = one(rng, &["'none'", "'some special quick requests'", "NULL"]);
        let total = money(rng, 1000..90000);
        orders.push(format!(
            "{key}, {customer}, '{status}', {total}, {}, '{priority}', 'Clerk#{}', 0, {comment}",
            date(day),
            key % 4
        ));
        for number in 1..=rng.usize(1..7) {
            lines.push(line(rng, key, number, day));
        }
    }
    vec![insert("orders", &orders), insert("lineitem", &lines)]
}

fn line(rng: &mut Rng, order: usize, number: usize, day: i64) -> String {
    let part = rng.usize(0..20);
    let supplier = (part + rng.usize(0..3) * 3) % 10 + 1;
    let (ship, commit) = (day + rng.i64(1..90), day + rng.i64(30..100));
    let receipt = ship + rng.i64(1..30);
    let discount = one(rng, &["0.00", "0.05", "0.06", "0.07", "0.10"]);
    let flag = one(rng, &["R", "A", "N"]);
    let status = one(rng, &["O", "F"]);
    let instruct = one(rng, &["DELIVER IN PERSON", "COLLECT COD", "NONE"]);
    let mode = one(rng, &["AIR", "AIR REG", "MAIL", "SHIP"]);
    let (quantity, price) = (rng.u32(1..51), money(rng, 900..50000));
    let (ship, commit, receipt) = (date(ship), date(commit), date(receipt));
    format!(
        "{order}, {}, {supplier}, {number}, {quantity}, {price}, {discount}, 0.02, '{flag}', '{status}', {ship}, \
         {commit}, {receipt}, '{instruct}', '{mode}', NULL",
        part + 1
    )
}

pub fn one_row(table: &str, row: String) -> String {
    insert(table, &[row])
}

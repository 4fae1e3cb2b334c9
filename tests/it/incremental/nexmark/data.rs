//! Persons, auctions and bids from a seed, in batches as a stream would bring them.
//!
//! ```text
//!   batch n ─▶ 3 persons, 6 auctions of earlier persons, 30 bids on earlier auctions; times go on with n
//! ```

use fastrand::Rng;

pub const TABLES: [&str; 4] = [
    "CREATE TABLE nex.person (id BIGINT, name VARCHAR, email VARCHAR, credit_card VARCHAR, city VARCHAR,
       state VARCHAR, date_time TIMESTAMP, extra VARCHAR)",
    "CREATE TABLE nex.auction (id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT,
       date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR)",
    "CREATE TABLE nex.bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
       date_time TIMESTAMP, extra VARCHAR)",
    "CREATE TABLE nex.side_input (key BIGINT, value VARCHAR)",
];

const PERSONS: u64 = 3;
const AUCTIONS: u64 = 6;
const BIDS: u64 = 30;
/// Seconds of one batch.
const SECONDS: u64 = 240;

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(0..of.len())]
}

/// A second of the batch; the stream begins at half past six, and goes on past the end of a day's morning.
fn time(seconds: u64) -> String {
    let start = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap().and_hms_opt(6, 30, 0).unwrap();
    format!("TIMESTAMP '{}'", start + chrono::TimeDelta::seconds(seconds as i64 * 20))
}

fn insert(table: &str, rows: &[String]) -> String {
    format!("INSERT INTO nex.{table} VALUES ({})", rows.join("), ("))
}

pub fn side_input() -> String {
    insert("side_input", &(0..5).map(|key| format!("{key}, 'side {key}'")).collect::<Vec<_>>())
}

/// The statements of one batch.
pub fn batch(rng: &mut Rng, number: u64) -> Vec<String> {
    let from = number * SECONDS;
    let persons = (number * PERSONS..(number + 1) * PERSONS).map(|id| person(rng, id, from)).collect::<Vec<_>>();
    let auctions = (number * AUCTIONS..(number + 1) * AUCTIONS).map(|id| auction(rng, id, from)).collect::<Vec<_>>();
    let bids = (0..BIDS).map(|_| bid(rng, number, from)).collect::<Vec<_>>();
    vec![insert("person", &persons), insert("auction", &auctions), insert("bid", &bids)]
}

fn person(rng: &mut Rng, id: u64, from: u64) -> String {
    let state = one(rng, &["OR", "ID", "CA", "WA", "AZ"]);
    let city = one(rng, &["Portland", "Boise", "Phoenix"]);
    format!("{id}, 'person {id}', 'p{id}@x.org', '1234', '{city}', '{state}', {}, NULL", time(from + rng.u64(0..60)))
}

fn auction(rng: &mut Rng, id: u64, from: u64) -> String {
    let seller = rng.u64(0..=id / AUCTIONS * PERSONS + 1);
    let (start, lasts) = (from + rng.u64(0..60), rng.u64(30..400));
    let category = rng.u64(10..13);
    format!(
        "{id}, 'item {id}', NULL, {}, {}, {}, {}, {seller}, {category}, NULL",
        rng.u64(1..100),
        rng.u64(100..1000),
        time(start),
        time(start + lasts)
    )
}

fn bid(rng: &mut Rng, number: u64, from: u64) -> String {
    let newest = (number + 1) * AUCTIONS;
    let auction = if rng.bool() { newest - 1 - rng.u64(0..AUCTIONS) } else { rng.u64(0..newest) };
    let bidder = rng.u64(0..(number + 1) * PERSONS);
    let price = match rng.u8(0..3) {
        0 => rng.u64(100..9_000),
        1 => rng.u64(10_000..60_000),
        _ => rng.u64(900_000..1_100_000),
    };
    let channel = one(rng, &["Google", "Apple", "Facebook", "channel-7", "channel-9"]);
    let url = one(rng, &["https://x.org/a/b/item.htm?query=1", "https://x.org/c/d/item.htm?query=1&channel_id=77"]);
    let extra = one(rng, &["'abc'", "'cccab'", "NULL"]);
    format!("{auction}, {bidder}, {price}, '{channel}', '{url}', {}, {extra}", time(from + rng.u64(0..SECONDS)))
}

//! The simulator: the same bytes for the same seed, faults at their rates, and the published figures, computed here
//! from the JSON itself by the rules of silver.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, HashSet};

use chrono::DateTime;
use flashcommerce::simulator::{DUE_RECORDS_MAX, SimulatorOptions};
use flashcommerce::simulator::{END_DEFAULT_US, EVENTS_DEFAULT, Event, Ledger, Profile, Rates, Simulator};
use serde_json::Value;

fn options(events: u64, seed: u64, profile: Profile) -> SimulatorOptions {
    SimulatorOptions::new(events, seed, profile)
}

fn run(options: SimulatorOptions) -> (Vec<Event>, Ledger) {
    let mut simulator = Simulator::new(options);
    let events: Vec<Event> = simulator.by_ref().collect();
    (events, simulator.ledger())
}

/// FNV-1a, the same everywhere.
fn hash(events: &[Event]) -> u64 {
    let bytes = events.iter().flat_map(|event| event.partition_key.bytes().chain(event.json.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The event, if silver would keep it.
fn clean(json: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(json).ok()?;
    let known = ["view", "add_to_cart", "remove_from_cart", "purchase", "restock", "review"];
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let sane = text("event_id").is_some()
        && text("seller_id").is_some()
        && text("event_type").is_some_and(|name| known.contains(&name))
        && text("event_time").is_some_and(|time| DateTime::parse_from_rfc3339(time).is_ok())
        && number(&event, "price").is_some_and(|price| price >= 0)
        && number(&event, "cost").is_some_and(|cost| cost >= 0)
        && number(&event, "quantity").is_some_and(|quantity| (100..=1_000_000).contains(&quantity));
    sane.then_some(event)
}

/// A number in hundredths, whether it is written as a number or as a string.
fn number(event: &Value, key: &str) -> Option<i64> {
    let text = match event.get(key)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    text.parse().ok().map(|value: f64| (value * 100.0).round() as i64)
}

fn time_us(event: &Value) -> i64 {
    DateTime::parse_from_rfc3339(event["event_time"].as_str().unwrap()).unwrap().timestamp_micros()
}

/// Names in the order of their sums, the largest first.
fn ranking(sums: BTreeMap<String, i64>) -> Vec<String> {
    let mut ranked: Vec<(String, i64)> = sums.into_iter().collect();
    ranked.sort_by_key(|(_, sum)| -sum);
    ranked.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (events, ledger) = run(options(20_000, 7, Profile::Faulty));
    assert_eq!(run(options(20_000, 7, Profile::Faulty)), (events.clone(), ledger));
    assert_ne!(hash(&run(options(20_000, 8, Profile::Faulty)).0), hash(&events));
    // Of any platform and any build. It changes only when the simulated store is changed on purpose.
    assert_eq!(hash(&events), 2_450_735_240_202_740_599);
}

#[test]
fn three_seeds_give_the_published_figures() {
    for seed in [1, 42, 20_261_122] {
        let (events, ledger) = run(options(EVENTS_DEFAULT, seed, Profile::Default));
        assert_eq!(events.len() as u64, EVENTS_DEFAULT);
        let mut seen = HashSet::new();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let [mut products, mut categories, mut cities] = [(); 3].map(|()| BTreeMap::new());
        let (mut revenue, mut profit) = (0, 0);
        for event in events.iter().filter_map(|event| clean(&event.json)) {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_string();
            if !seen.insert(text("event_id")) {
                continue;
            }
            *counts.entry(text("event_type")).or_default() += 1;
            if event["event_type"] == "purchase" {
                let [price, cost, quantity] = ["price", "cost", "quantity"].map(|key| number(&event, key).unwrap());
                revenue += price * quantity / 100;
                profit += (price - cost) * quantity / 100;
                *products.entry(text("product_name")).or_default() += (price - cost) * quantity;
                *categories.entry(text("category")).or_default() += (price - cost) * quantity;
                *cities.entry(text("city")).or_default() += price * quantity;
            }
        }
        // What was found is what the ledger says.
        assert_eq!(seen.len() as u64, ledger.clean);
        assert_eq!(
            [counts["view"], counts["add_to_cart"], counts["purchase"]],
            [ledger.views, ledger.carts, ledger.purchases]
        );
        assert_eq!([revenue as u64, profit as u64], [ledger.revenue_paise, ledger.profit_paise]);
        // And what was published.
        let near = |value: i64, published: f64| (value as f64 / 100.0 / published - 1.0).abs() < 0.005;
        assert!(near(revenue, 357.4e6) && near(profit, 83.5e6), "seed {seed}: {revenue} {profit}");
        let percent = |part: f64, whole: f64| part / whole * 100.0;
        let views = counts["view"] as f64;
        assert!((percent(profit as f64, revenue as f64) - 23.37).abs() < 0.05, "seed {seed}");
        assert!((percent(counts["add_to_cart"] as f64, views) - 44.15).abs() < 0.1, "seed {seed}: {counts:?}");
        assert!((percent(counts["purchase"] as f64, views) - 20.68).abs() < 0.1, "seed {seed}: {counts:?}");
        assert_eq!(ranking(products)[..2], ["Diamond Ring", "Treadmill"], "seed {seed}");
        assert_eq!(ranking(categories)[..2], ["Jewelry", "Electronics"], "seed {seed}");
        assert_eq!(ranking(cities)[..2], ["New Delhi", "Mumbai"], "seed {seed}");
    }
}

#[test]
fn faults_come_at_their_rates_and_silver_can_tell_them() {
    let events = 100_000;
    let rates = Rates { duplicates: 0.02, broken: 0.01, bad_fields: 0.015, late: 0.03 };
    let (records, ledger) = run(SimulatorOptions { rates, ..options(events, 5, Profile::Default) });
    let near = |count: u64, rate: f64| (count as f64 - rate * events as f64).abs() < 20.0;
    assert!(near(ledger.duplicates, 0.02) && near(ledger.broken, 0.01), "{ledger:?}");
    assert!(near(ledger.bad_fields, 0.015) && near(ledger.late, 0.03), "{ledger:?}");
    assert_eq!(ledger.records, events);
    assert_eq!(ledger.clean + ledger.duplicates + ledger.broken + ledger.bad_fields, events);

    let broken = records.iter().filter(|record| serde_json::from_str::<Value>(&record.json).is_err()).count();
    assert_eq!(broken as u64, ledger.broken);
    let good: Vec<Value> = records.iter().filter_map(|record| clean(&record.json)).collect();
    assert_eq!((records.len() - broken - good.len()) as u64, ledger.bad_fields);
    let ids: HashSet<&str> = good.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len() as u64, ledger.clean);
    let distinct: HashSet<&str> = records.iter().map(|record| record.json.as_str()).collect();
    assert!(distinct.len() as u64 <= events - ledger.duplicates, "a duplicate is the same record again");
    assert!(records.iter().all(|record| !record.json.is_empty() && !record.json.contains('\n')));
}

#[test]
fn faults_do_not_move_the_figures() {
    let figures = |profile| run(options(100_000, 3, profile)).1;
    let (clean, faulty) = (figures(Profile::Clean), figures(Profile::Faulty));
    assert_eq!(clean.clean, 100_000);
    assert_eq!([clean.duplicates, clean.broken, clean.bad_fields, clean.late], [0; 4]);
    let near = |a: u64, b: u64| (a as f64 / b as f64 - 1.0).abs() < 0.005;
    assert!(near(clean.revenue_paise, faulty.revenue_paise) && near(clean.profit_paise, faulty.profit_paise));
    assert!(near(clean.views, faulty.views) && near(clean.carts, faulty.carts));
}

#[test]
fn records_come_in_the_order_of_their_arrival() {
    let (records, ledger) = run(options(EVENTS_DEFAULT, 9, Profile::Default));
    let minute = 60_000_000;
    let day = 24 * 60 * minute;
    let mut newest = i64::MIN;
    let mut late = 0;
    for event in records.iter().filter_map(|record| clean(&record.json)) {
        let time = time_us(&event);
        assert!(time >= END_DEFAULT_US - 28 * day && time < END_DEFAULT_US, "{event}");
        newest = newest.max(time);
        assert!(newest - time < day, "a day late at most: {event}");
        late += u64::from(newest - time > minute);
    }
    assert!(late <= ledger.late && late > ledger.late * 8 / 10, "{late} of {}", ledger.late);
}

#[test]
fn totals_scale_with_the_number_of_events() {
    for (events, tolerance) in [(20_000, 0.03), (1_000_000, 0.002)] {
        let mut simulator = Simulator::new(options(events, 11, Profile::Default));
        assert_eq!(simulator.by_ref().count() as u64, events);
        let share = events as f64 / EVENTS_DEFAULT as f64;
        let revenue = simulator.ledger().revenue_paise as f64 / 100.0;
        assert!((revenue / (357.4e6 * share) - 1.0).abs() < tolerance, "{events}: {revenue}");
    }
    assert_eq!(run(options(0, 1, Profile::Default)).0, []);
    assert_eq!(run(options(1, 1, Profile::Default)).0.len(), 1);
}

#[test]
fn traffic_follows_the_indian_day_and_the_sales() {
    let (records, _) = run(options(EVENTS_DEFAULT, 2, Profile::Clean));
    let ist = 19_800_000_000;
    let hour_us = 3_600_000_000;
    let (mut hours, mut days) = ([0; 24], BTreeMap::new());
    for record in &records {
        let local = time_us(&serde_json::from_str(&record.json).unwrap()) + ist;
        hours[(local / hour_us % 24) as usize] += 1;
        *days.entry(local / hour_us / 24).or_insert(0) += 1;
    }
    assert!(hours[21] > 10 * hours[4], "evening against night: {hours:?}");
    let last = *days.keys().next_back().unwrap();
    assert_eq!(days.len(), 28);
    // Diwali: Sunday 8 November, twelve days before the end.
    assert_eq!(days.iter().max_by_key(|(_, count)| **count).map(|(day, _)| last - day), Some(12));
}

#[test]
fn records_are_as_long_as_the_published_ones() {
    let (records, _) = run(options(50_000, 4, Profile::Default));
    let mean = records.iter().map(|record| record.json.len()).sum::<usize>() / records.len();
    assert!((370..=390).contains(&mean), "{mean}");
    let keys: HashSet<&str> = records.iter().map(|record| record.partition_key.as_str()).collect();
    assert!(keys.len() > 5_000, "records spread over the shards");
}

#[test]
fn live_traffic_comes_when_its_time_has_come() {
    let second = 1_000_000;
    let now = END_DEFAULT_US + 3 * 86_400 * second;
    let options = options(10_000, 1, Profile::Default);
    let mut live = Simulator::live(&options, now, 50.0);
    assert_eq!(live.due(now - 1), []);
    let mut records = Vec::new();
    let mut at = now;
    while at < now + 600 * second {
        at += second / 5;
        let due = live.due(at);
        for event in due.iter().filter_map(|record| clean(&record.json)) {
            assert!(time_us(&event) >= now && time_us(&event) <= at, "{event}");
        }
        records.extend(due);
    }
    // Visits that have begun are not over, so that the pace is reached after some minutes.
    assert!((20_000..=30_500).contains(&records.len()), "{}", records.len());
    assert_eq!(live.ledger().records, records.len() as u64);

    let ids = |records: &[Event]| -> HashSet<String> {
        let events = records.iter().filter_map(|record| clean(&record.json));
        events.map(|event| event["event_id"].as_str().unwrap().to_string()).collect()
    };
    let again = Simulator::live(&options, now + second, 50.0).due(now + 300 * second);
    assert!(!again.is_empty() && ids(&again).is_disjoint(&ids(&records)), "every start has its own events");
    assert!(ids(&run(options.clone()).0).is_disjoint(&ids(&records)));

    let mut fast = Simulator::live(&options, now, 10_000.0);
    assert_eq!(fast.due(now + 3600 * second).len(), DUE_RECORDS_MAX, "the rest comes with the next call");
}

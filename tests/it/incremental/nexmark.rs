//! Nexmark as views: auctions and bids arrive in batches, some are taken back.

mod data;

use fastrand::Rng;

use super::public::{Suite, queries};

/// Queries that are not held incrementally. None, at best.
const REFUSED: [&str; 0] = [];

/// What is taken back, or corrected, after a batch.
const CORRECTIONS: [&[&str]; 6] = [
    &["DELETE FROM nex.bid WHERE bidder = 1"],
    &["DELETE FROM nex.auction WHERE id IN (2, 5)", "UPDATE nex.person SET state = 'OR' WHERE id % 2 = 0"],
    &["UPDATE nex.bid SET price = price + 5000 WHERE auction % 4 = 1"],
    &["UPDATE nex.auction SET category = 10 WHERE category = 11", "DELETE FROM nex.side_input WHERE key = 3"],
    &["DELETE FROM nex.bid WHERE date_time < TIMESTAMP '2026-01-01 07:30:00'", "DELETE FROM nex.person WHERE id = 99"],
    &["DELETE FROM nex.auction WHERE seller < 4", "TRUNCATE TABLE nex.side_input"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nexmark_views_follow_the_stream() {
    let mut rng = Rng::with_seed(7);
    let mut loaded = data::batch(&mut rng, 0);
    loaded.push(data::side_input());
    let views = queries("q", include_str!("nexmark/queries.sql"));
    assert_eq!(views.len(), 22);
    let mut suite = Suite::new(&data::TABLES, &loaded, views).await;
    for (number, corrections) in CORRECTIONS.iter().enumerate() {
        for sql in data::batch(&mut rng, number as u64 + 1) {
            suite.commit(&sql).await;
        }
        for sql in *corrections {
            suite.commit(sql).await;
        }
        if number == 2 {
            suite = suite.restart().await;
        }
    }
    suite.finish(0).await;
    let refused = suite.refused.keys().map(|name| name.trim_start_matches("q.")).collect::<Vec<_>>();
    assert_eq!(refused, REFUSED);
}

//! The status page: one table, no script; the browser asks again every five seconds.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::engine::ViewStatus;
use crate::epoch::PublishedRecord;

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta http-equiv=\"refresh\" content=\"5\">
<title>FlashCommerce</title>
<style>
:root { color-scheme: light dark; --line: light-dark(#e3e6ea, #2c3138); --soft: light-dark(#5b6570, #9aa4af);
        --good: light-dark(#17784a, #4cc38a); --late: light-dark(#a15c00, #e8a33d); --bad: light-dark(#b3261e, #ff8a80); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 2rem 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
p { color: var(--soft); margin: 0 0 1.5rem; }
code { font: .9em ui-monospace, monospace; color: CanvasText; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .75rem .45rem 0; text-align: left; white-space: nowrap; }
th { color: var(--soft); font-weight: 500; }
td.number, th.number { font-variant-numeric: tabular-nums; text-align: right; }
.good { color: var(--good); } .late { color: var(--late); } .bad { color: var(--bad); }
td.reason { color: var(--soft); white-space: normal; min-width: 14rem; }
</style>
</head>
<body>
<h1>FlashCommerce</h1>
";

/// The page for these views. `flight` is where Flight SQL listens.
pub(crate) fn render(views: &[ViewStatus], record: &PublishedRecord, flight: Option<SocketAddr>) -> String {
    let mut page = HEAD.to_string();
    let state = match record.epoch {
        0 => "Nothing is published yet".to_string(),
        epoch => format!("Epoch {} is published", thousands(epoch)),
    };
    let door = match flight {
        Some(addr) => format!(
            "SQL clients connect to <code>grpc://{addr}</code> \
             (JDBC: <code>jdbc:arrow-flight-sql://{addr}?useEncryption=false</code>)"
        ),
        None => "Flight SQL is not served by this process".to_string(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(page, "<p>{state}. {door}. <a href=\"/metrics\">Metrics</a></p>");
    if views.is_empty() {
        page += "<p>There are no materialized views yet.</p>\n";
    } else {
        page += "<div class=\"scroll\"><table>\n<tr><th>View<th class=\"number\">Rows<th class=\"number\">Frontier\
                 <th class=\"number\">Lag<th>Last refresh<th>Why\n";
        views.iter().for_each(|view| row(&mut page, view));
        page += "</table></div>\n";
    }
    page += "</body>\n</html>\n";
    page
}

fn row(page: &mut String, view: &ViewStatus) {
    let (class, lag) = lag(view);
    let _ = writeln!(
        page,
        "<tr><td>{}<td class=\"number\">{}<td class=\"number\">{}<td class=\"number {class}\">{lag}<td>{}<td class=\"reason\">{}",
        escape(&view.name.to_string()),
        thousands(view.rows),
        thousands(view.frontier),
        escape(&view.mode),
        escape(&view.reason),
    );
}

/// The lag, and whether it is as asked for.
fn lag(view: &ViewStatus) -> (&'static str, String) {
    if view.suspended {
        return ("late", "suspended".to_string());
    }
    let Some(lag_ms) = view.lag_ms else { return ("late", "not filled yet".to_string()) };
    let lag_ms = lag_ms.max(0).unsigned_abs();
    let text = match lag_ms {
        0..1000 => format!("{lag_ms} ms"),
        1000..120_000 => format!("{}.{} s", lag_ms / 1000, lag_ms % 1000 / 100),
        _ => format!("{} min", lag_ms / 60_000),
    };
    match view.target_lag_ms {
        Some(target_ms) if lag_ms > 2 * target_ms => ("bad", text),
        Some(target_ms) if lag_ms > target_ms => ("late", text),
        _ => ("good", text),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::TableName;

    fn view(lag_ms: Option<i64>, suspended: bool) -> ViewStatus {
        ViewStatus {
            name: TableName::new("gold", "<b>"),
            location: String::new(),
            version: 1,
            rows: 1_234_567,
            lag_ms,
            target_lag_ms: Some(5000),
            mode: "append".into(),
            reason: "a & b".into(),
            frontier: 7,
            suspended,
            quarantined: 0,
        }
    }

    #[test]
    fn names_are_escaped_and_numbers_readable() {
        let page = render(&[view(Some(1260), false)], &PublishedRecord::default(), None);
        assert!(page.contains("<td>gold.&lt;b&gt;<td class=\"number\">1,234,567<td"), "{page}");
        assert!(page.contains("<td class=\"number good\">1.2 s<td>append<td class=\"reason\">a &amp; b"), "{page}");
        assert!(page.contains("Nothing is published yet"));
    }

    #[test]
    fn the_colour_follows_the_target() {
        assert_eq!(lag(&view(Some(5001), false)).0, "late");
        assert_eq!(lag(&view(Some(10_001), false)).0, "bad");
        assert_eq!(lag(&view(Some(600_000), false)), ("bad", "10 min".to_string()));
        assert_eq!(lag(&view(None, false)).1, "not filled yet");
        assert_eq!(lag(&view(Some(1), true)).1, "suspended");
    }
}

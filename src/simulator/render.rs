//! Drafts as JSON text, good and bad.

use super::Event;
use super::calendar::write_instant;
use super::catalogue::{CATEGORIES, CITIES, DEVICES, PAYMENTS, REVIEWS};
use super::random::mix;
use super::shop::{Draft, Fault, Kind};

/// Room for a long record, so that writing one seldom allocates twice.
const RECORD_BYTES: usize = 448;

/// What may be wrong with a field. Silver removes every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadField {
    None,
    NoSeller,
    NegativePrice,
    ImpossibleQuantity,
    TextForPrice,
    UnknownType,
    NoEventId,
    NoTime,
}

impl BadField {
    fn of(draft: &Draft) -> Self {
        if draft.fault != Fault::BadField {
            return Self::None;
        }
        // Missing sellers, negative prices and impossible quantities are the usual faults.
        match mix(draft.id ^ 1) % 16 {
            0..=4 => Self::NoSeller,
            5..=8 => Self::NegativePrice,
            9..=11 => Self::ImpossibleQuantity,
            12 => Self::TextForPrice,
            13 => Self::UnknownType,
            14 => Self::NoEventId,
            _ => Self::NoTime,
        }
    }
}

/// The record of a draft.
pub(super) fn event(draft: &Draft) -> Event {
    let mut json = String::with_capacity(RECORD_BYTES);
    write_object(&mut json, draft, BadField::of(draft));
    if draft.fault == Fault::Broken {
        break_json(&mut json, mix(draft.id ^ 2));
    }
    let mut partition_key = String::with_capacity(16);
    match draft.shopper {
        Some((_, session)) => write_session(&mut partition_key, session),
        None => write_seller(&mut partition_key, draft.seller),
    }
    Event { partition_key, json }
}

fn write_object(out: &mut String, draft: &Draft, bad: BadField) {
    let product = draft.product();
    out.push('{');
    if bad != BadField::NoEventId {
        out.push_str("\"event_id\":\"");
        write_hex(out, draft.id, 16);
        out.push_str("\",");
    }
    out.push_str("\"event_type\":\"");
    out.push_str(if bad == BadField::UnknownType { "wishlist" } else { type_name(draft.kind) });
    if bad != BadField::NoTime {
        out.push_str("\",\"event_time\":\"");
        write_instant(out, draft.time_us);
    }
    match draft.shopper {
        Some((number, session)) => {
            out.push_str("\",\"user_id\":\"U");
            write_padded(out, number, 6);
            out.push_str("\",\"session_id\":\"");
            write_session(out, session);
            out.push('"');
        }
        None => out.push_str("\",\"user_id\":null,\"session_id\":null"),
    }
    if bad != BadField::NoSeller {
        out.push_str(",\"seller_id\":\"");
        write_seller(out, draft.seller);
        out.push('"');
    }
    out.push_str(",\"product_id\":\"P");
    write_padded(out, u32::from(draft.product) + 1, 3);
    out.push_str("\",\"product_name\":\"");
    out.push_str(product.name);
    out.push_str("\",\"category\":\"");
    out.push_str(CATEGORIES[product.category].name);
    out.push_str("\",\"price\":");
    match bad {
        BadField::TextForPrice => out.push_str("\"N/A\""),
        _ => write_money(out, product.price, bad == BadField::NegativePrice, draft.strings),
    }
    out.push_str(",\"cost\":");
    write_money(out, product.cost, false, draft.strings);
    out.push_str(",\"quantity\":");
    let quantity = match bad {
        BadField::ImpossibleQuantity if draft.id.is_multiple_of(2) => 0,
        BadField::ImpossibleQuantity => 1_000_000,
        _ => u32::from(draft.quantity),
    };
    write_number(out, quantity, draft.strings);
    write_circumstances(out, draft);
    out.push('}');
}

/// City, state, payment method, device, rating and text.
fn write_circumstances(out: &mut String, draft: &Draft) {
    let city = draft.city.map(|city| &CITIES[usize::from(city)]);
    write_text(out, ",\"city\":", city.map(|city| city.name));
    write_text(out, ",\"state\":", city.map(|city| city.state));
    write_text(out, ",\"payment_method\":", draft.payment.map(|payment| PAYMENTS[usize::from(payment)].0));
    write_text(out, ",\"device\":", draft.device.map(|device| DEVICES[usize::from(device)].0));
    if let Some(review) = draft.review {
        let (rating, _, text) = REVIEWS[usize::from(review)];
        out.push_str(",\"rating\":");
        write_number(out, u32::from(rating), draft.strings);
        write_text(out, ",\"review_text\":", Some(text));
    }
    // A field that silver does not know.
    out.push_str(",\"app_version\":\"4.");
    write_padded(out, (draft.id % 40) as u32, 1);
    out.push('"');
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "view",
        Kind::AddToCart => "add_to_cart",
        Kind::RemoveFromCart => "remove_from_cart",
        Kind::Purchase => "purchase",
        Kind::Restock => "restock",
        Kind::Review => "review",
    }
}

/// Make it anything but a JSON object: cut off, doubled at the end, without a quote, or another program's text.
fn break_json(json: &mut String, draw: u64) {
    match draw % 4 {
        0 | 1 => {
            let mut keep = 1 + (draw >> 8) as usize % (json.len() - 1);
            while !json.is_char_boundary(keep) {
                keep -= 1;
            }
            json.truncate(keep);
        }
        2 => json.push('}'),
        _ if draw & 4 == 0 => *json = json.replacen(",\"", ",", 1),
        _ => *json = format!("ERROR [checkout-{}] upstream timed out after 3000 ms", draw % 97),
    }
}

fn write_text(out: &mut String, key: &str, text: Option<&str>) {
    out.push_str(key);
    match text {
        Some(text) => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        None => out.push_str("null"),
    }
}

fn write_seller(out: &mut String, seller: u8) {
    out.push('S');
    write_padded(out, u32::from(seller), 3);
}

fn write_session(out: &mut String, session: u64) {
    out.push_str("s-");
    write_hex(out, session >> 16, 12);
}

/// Rupees with two decimals.
fn write_money(out: &mut String, rupees: u32, negative: bool, as_string: bool) {
    let quote = if as_string { "\"" } else { "" };
    out.push_str(quote);
    if negative {
        out.push('-');
    }
    write_padded(out, rupees, 1);
    out.push_str(".00");
    out.push_str(quote);
}

fn write_number(out: &mut String, number: u32, as_string: bool) {
    let quote = if as_string { "\"" } else { "" };
    out.push_str(quote);
    write_padded(out, number, 1);
    out.push_str(quote);
}

/// Decimal digits, at least `width` of them.
fn write_padded(out: &mut String, mut number: u32, width: usize) {
    let mut digits = [b'0'; 10];
    let mut at = digits.len();
    while number > 0 || digits.len() - at < width {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// The lowest `width` hexadecimal digits.
fn write_hex(out: &mut String, number: u64, width: usize) {
    let mut digits = [b'0'; 16];
    for (at, slot) in digits.iter_mut().enumerate() {
        *slot = b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15];
    }
    out.push_str(std::str::from_utf8(&digits[16 - width..]).unwrap_or_default());
}

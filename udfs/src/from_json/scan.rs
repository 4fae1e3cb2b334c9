//! The scanner: finds the values of a JSON text and checks its grammar, building nothing.
//!
//! ```text
//! {"price":"499.00","note":"a \"b\"","tags":[1,2]}
//!          └ Text ┘        └Escaped┘       └Nested┘   a kind and two byte offsets each
//! ```
//!
//! Strings are searched eight bytes at a time for what may end or break them. The grammar is RFC 8259, as strict
//! as serde_json: no trailing commas, no control characters in strings, no lone surrogates, depth below
//! [`DEPTH_MAX`]. Nesting is followed with one bit a level instead of recursion, so no text can exhaust the stack.

/// Levels of nested objects and arrays; a deeper text is refused.
pub(super) const DEPTH_MAX: u32 = 127;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// Missing, or `null`.
    #[default]
    Null,
    True,
    False,
    Number,
    /// A string without escapes; the offsets are those between the quotes.
    Text,
    /// A string with escapes.
    Escaped,
    /// An object or array.
    Nested,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) kind: Kind,
}

/// The first byte at or after `at` that is not white space.
#[inline]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The value that begins at `at`, and the offset after it. `None`: there is none. `depth` counts the containers
/// that are open around it.
#[inline]
pub(super) fn value(bytes: &[u8], at: usize, depth: u32) -> Option<(Token, usize)> {
    let token = |start: usize, end: usize, kind| Token { start: start as u32, end: end as u32, kind };
    match *bytes.get(at)? {
        b'"' => {
            let (end, kind) = string(bytes, at + 1)?;
            Some((token(at + 1, end, kind), end + 1))
        }
        b'-' | b'0'..=b'9' => {
            let end = number(bytes, at)?;
            Some((token(at, end, Kind::Number), end))
        }
        b't' => literal(bytes, at, b"true", Kind::True),
        b'f' => literal(bytes, at, b"false", Kind::False),
        b'n' => literal(bytes, at, b"null", Kind::Null),
        b'{' | b'[' => {
            let end = nested(bytes, at, depth)?;
            Some((token(at, end, Kind::Nested), end))
        }
        _ => None,
    }
}

#[inline]
fn literal(bytes: &[u8], at: usize, word: &[u8], kind: Kind) -> Option<(Token, usize)> {
    let end = at + word.len();
    let found = bytes.get(at..end)? == word;
    found.then_some((Token { start: at as u32, end: end as u32, kind }, end))
}

/// The closing quote of the string whose first byte is at `at`, and whether it has escapes.
#[inline]
pub(super) fn string(bytes: &[u8], mut at: usize) -> Option<(usize, Kind)> {
    let mut kind = Kind::Text;
    loop {
        at = plain_end(bytes, at);
        match *bytes.get(at)? {
            b'"' => return Some((at, kind)),
            b'\\' => {
                kind = Kind::Escaped;
                at = escape(bytes, at + 1)?;
            }
            _ => return None,
        }
    }
}

/// The first quote, backslash or control character at or after `at`, or the end.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = special(u64::from_le_bytes(*chunk));
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            break;
        }
        at += 1;
    }
    at
}

/// The high bit of the lowest byte that is a quote, a backslash or below 0x20 (bits above it may be wrong).
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    (zero(quote) | zero(backslash) | (word.wrapping_sub(ONES * 0x20) & !word)) & HIGHS
}

/// The offset after the escape whose backslash is before `at`.
fn escape(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => match hex(bytes, at + 1)? {
            0xD800..=0xDBFF => {
                let pair = bytes.get(at + 5..at + 7)? == b"\\u";
                let low = hex(bytes, at + 7)?;
                (pair && (0xDC00..=0xDFFF).contains(&low)).then_some(at + 11)
            }
            0xDC00..=0xDFFF => None,
            _ => Some(at + 5),
        },
        _ => None,
    }
}

/// Four hexadecimal digits.
fn hex(bytes: &[u8], at: usize) -> Option<u32> {
    let mut value = 0;
    for byte in bytes.get(at..at + 4)? {
        value = value * 16 + char::from(*byte).to_digit(16)?;
    }
    Some(value)
}

/// The offset after the number that begins at `at`.
#[inline]
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let unsigned = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = digits(bytes, unsigned)?;
    if bytes.get(unsigned) == Some(&b'0') && end > unsigned + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(bytes, end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        end = digits(bytes, end + 1 + usize::from(signed))?;
    }
    Some(end)
}

/// The offset after the digits at `at`, of which there must be one.
#[inline]
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    (end > at).then_some(end)
}

/// The offset after the object or array that begins at `at`.
fn nested(bytes: &[u8], at: usize, depth: u32) -> Option<usize> {
    let mut open = Open { objects: 0, depth, base: depth };
    let mut at = open.enter(bytes, at)?;
    loop {
        // Here a value has just ended or a container has just been closed or found empty.
        at = match open.enter_next(bytes, at)? {
            Step::Done(end) => return Some(end),
            Step::On(next) => next,
        };
    }
}

/// The containers that are open: one bit each, set for objects.
struct Open {
    objects: u128,
    depth: u32,
    base: u32,
}

enum Step {
    Done(usize),
    On(usize),
}

impl Open {
    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// Open the containers that begin at `at`, up to the end of the first value that is not one, or of an empty one.
    fn enter(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let object = match bytes.get(at)? {
                b'{' => true,
                b'[' => false,
                _ => return value_flat(bytes, at),
            };
            if self.depth >= DEPTH_MAX {
                return None;
            }
            self.depth += 1;
            self.objects = self.objects << 1 | u128::from(object);
            at = skip_space(bytes, at + 1);
            if bytes.get(at) == Some(if object { &b'}' } else { &b']' }) {
                self.close();
                return Some(at + 1);
            }
            if object {
                at = key(bytes, at)?.1;
            }
        }
    }

    /// After a value: close containers, or go to the end of the next value.
    fn enter_next(&mut self, bytes: &[u8], mut at: usize) -> Option<Step> {
        if self.depth == self.base {
            return Some(Step::Done(at));
        }
        at = skip_space(bytes, at);
        let close = if self.in_object() { b'}' } else { b']' };
        match *bytes.get(at)? {
            byte if byte == close => {
                self.close();
                Some(Step::On(at + 1))
            }
            b',' => {
                at = skip_space(bytes, at + 1);
                if self.in_object() {
                    at = key(bytes, at)?.1;
                }
                self.enter(bytes, at).map(Step::On)
            }
            _ => None,
        }
    }

    fn close(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }
}

/// The offset after a string, number or literal.
fn value_flat(bytes: &[u8], at: usize) -> Option<usize> {
    // Not a container, so `value` does not come back here.
    value(bytes, at, DEPTH_MAX).map(|(_, end)| end)
}

/// The key that begins at `at`: where its text begins and ends, and where its value begins.
pub(super) fn key(bytes: &[u8], at: usize) -> Option<(Token, usize)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let (end, kind) = string(bytes, at + 1)?;
    let colon = skip_space(bytes, end + 1);
    if bytes.get(colon) != Some(&b':') {
        return None;
    }
    let token = Token { start: at as u32 + 1, end: end as u32, kind };
    Some((token, skip_space(bytes, colon + 1)))
}

/// Append the text of a string that [`string`] accepted as `Escaped`, without its escapes.
pub(super) fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (character, length) = unescape_one(&rest.as_bytes()[at + 1..]);
        out.push(character);
        rest = rest.get(at + 1 + length..).unwrap_or_default();
    }
    out.push_str(rest);
}

/// The character of the escape after its backslash, and the bytes that it takes there.
fn unescape_one(bytes: &[u8]) -> (char, usize) {
    let plain = match bytes.first() {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let high = hex(bytes, 1).unwrap_or(0xFFFD);
            if let 0xD800..=0xDBFF = high {
                let low = hex(bytes, 7).unwrap_or(0xDC00);
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
            }
            return (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 5);
        }
        Some(byte) => char::from(*byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (plain, 1)
}

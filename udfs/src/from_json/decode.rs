//! A batch of JSON texts to a struct array, in one pass.
//!
//! ```text
//! for each chunk of 128 records
//!   scan     each record: find the place of every wanted value          tokens[column][record]
//!            the key after `city` was `state` the last time: compare there first, look up only if it is not
//!   build    each column: turn its 128 places into values
//! ```
//!
//! Nothing of a record is kept until all of it was found to be a JSON object: a broken one becomes a NULL struct.
//! Of a key that occurs twice the last value counts, as with serde_json.

use std::collections::HashMap;

use arrow::array::StructArray;
use arrow::array::builder::NullBufferBuilder;
use arrow::datatypes::Fields;
use datafusion_common::Result;

use super::build::Column;
use super::input::Input;
use super::scan::{self, Kind, Token};

/// Records whose values are found before columns are built: their texts and tokens stay in the second-level cache.
const CHUNK: usize = 128;
/// Bytes of one record; a longer one is NULL. Offsets have 32 bits.
const RECORD_BYTES_MAX: usize = 1 << 30;
/// Keys outside the schema that are remembered.
const UNKNOWN_KEYS_MAX: usize = 64;

/// A key that was met, or that the schema names.
struct Key {
    /// `"name":`, as it stands in a record without white space.
    pattern: Pattern,
    /// Its column; `None` for keys that the schema does not name.
    column: Option<usize>,
    /// The key that followed it the last time.
    next: usize,
}

/// The place of [`Decoder::keys`] for the beginning of a record and for keys that are not remembered. Its pattern
/// cannot occur.
const NO_KEY: usize = 0;

/// What is learnt of the keys while records are scanned.
struct Decoder {
    keys: Vec<Key>,
    by_name: HashMap<Box<str>, usize>,
    scratch: String,
}

/// Decode every text of `input`.
pub(super) fn decode(input: &Input<'_>, fields: &Fields) -> Result<StructArray> {
    let rows = input.len();
    let mut columns = fields.iter().map(|field| Column::new(field.data_type(), rows)).collect::<Result<Vec<_>>>()?;
    let mut decoder = Decoder::new(fields);
    let mut valid = NullBufferBuilder::new(rows);
    let mut texts = [""; CHUNK];
    let mut tokens = vec![Token::default(); CHUNK * fields.len()];
    let mut scratch = String::new();
    for start in (0..rows).step_by(CHUNK) {
        let count = CHUNK.min(rows - start);
        tokens.fill(Token::default());
        for (at, slot) in texts[..count].iter_mut().enumerate() {
            let text = input.text(start + at).filter(|text| text.len() <= RECORD_BYTES_MAX);
            let readable = text.is_some_and(|text| decoder.record(text, &mut tokens, at).is_some());
            if !readable {
                tokens.iter_mut().skip(at).step_by(CHUNK).for_each(|token| *token = Token::default());
            }
            *slot = text.unwrap_or_default();
            valid.append(readable);
        }
        for (column, tokens) in columns.iter_mut().zip(tokens.chunks(CHUNK)) {
            column.extend(&texts[..count], &tokens[..count], &mut scratch);
        }
    }
    let arrays = columns.into_iter().map(Column::finish).collect();
    Ok(StructArray::try_new_with_length(fields.clone(), arrays, valid.finish(), rows)?)
}

impl Decoder {
    fn new(fields: &Fields) -> Self {
        let mut decoder = Self { keys: Vec::new(), by_name: HashMap::new(), scratch: String::new() };
        decoder.keys.push(Key { pattern: Pattern::never(), column: None, next: NO_KEY });
        for (column, field) in fields.iter().enumerate() {
            decoder.remember(field.name(), Some(column));
        }
        for at in 0..decoder.keys.len() - 1 {
            decoder.keys[at].next = at + 1;
        }
        decoder
    }

    fn remember(&mut self, name: &str, column: Option<usize>) -> usize {
        let at = self.keys.len();
        // A name that JSON writes with escapes is always looked up.
        let plain = !name.contains(['"', '\\']) && !name.contains(char::is_control);
        let pattern = if plain { Pattern::new(&format!("\"{name}\":")) } else { Pattern::never() };
        self.keys.push(Key { pattern, column, next: NO_KEY });
        self.by_name.insert(name.into(), at);
        at
    }

    /// Find the values of a record and put their tokens in place `at` of their columns. `None`: it is no JSON object.
    #[inline]
    fn record(&mut self, text: &str, tokens: &mut [Token], at: usize) -> Option<()> {
        let bytes = text.as_bytes();
        let mut here = scan::skip_space(bytes, 0);
        if bytes.get(here) != Some(&b'{') {
            return None;
        }
        here = scan::skip_space(bytes, here + 1);
        if bytes.get(here) == Some(&b'}') {
            return self.end(bytes, here + 1);
        }
        let mut key = NO_KEY;
        loop {
            (key, here) = self.key(text, here, key)?;
            here = scan::skip_space(bytes, here);
            let (token, after) = scan::value(bytes, here, 1)?;
            if let Some(column) = self.keys[key].column {
                tokens[column * CHUNK + at] = token;
            }
            here = scan::skip_space(bytes, after);
            match bytes.get(here)? {
                b',' => here = scan::skip_space(bytes, here + 1),
                b'}' => return self.end(bytes, here + 1),
                _ => return None,
            }
        }
    }

    fn end(&self, bytes: &[u8], at: usize) -> Option<()> {
        (scan::skip_space(bytes, at) == bytes.len()).then_some(())
    }

    /// The key at `at` and the offset after its colon, guessing that it is the one that followed `previous` before.
    #[inline]
    fn key(&mut self, text: &str, at: usize, previous: usize) -> Option<(usize, usize)> {
        let guess = self.keys[previous].next;
        let pattern = &self.keys[guess].pattern;
        if pattern.is_at(text.as_bytes(), at) {
            return Some((guess, at + pattern.bytes.len()));
        }
        let (key, after) = self.look_up(text, at)?;
        if key != NO_KEY {
            self.keys[previous].next = key;
        }
        Some((key, after))
    }

    #[inline(never)]
    fn look_up(&mut self, text: &str, at: usize) -> Option<(usize, usize)> {
        let (token, after) = scan::key(text.as_bytes(), at)?;
        let raw = text.get(token.start as usize..token.end as usize)?;
        if token.kind == Kind::Text {
            let known = self.by_name.get(raw).copied();
            let room = self.keys.len() <= self.columns() + UNKNOWN_KEYS_MAX;
            let key = known.unwrap_or_else(|| if room { self.remember(raw, None) } else { NO_KEY });
            return Some((key, after));
        }
        self.scratch.clear();
        scan::unescape(raw, &mut self.scratch);
        Some((self.by_name.get(self.scratch.as_str()).copied().unwrap_or(NO_KEY), after))
    }

    fn columns(&self) -> usize {
        self.keys.iter().filter(|key| key.column.is_some()).count()
    }
}

/// Bytes to compare with a place in a text: by three words with a mask, where they fit and the text goes on that far.
struct Pattern {
    bytes: Box<[u8]>,
    words: [(u64, u64); 3],
}

/// Bytes of the words.
const WORDS: usize = 24;

impl Pattern {
    fn new(text: &str) -> Self {
        let mut words = [(0, 0); 3];
        for (at, byte) in text.bytes().enumerate().take(WORDS) {
            words[at / 8].0 |= u64::from(byte) << (at % 8 * 8);
            words[at / 8].1 |= 0xff << (at % 8 * 8);
        }
        Self { bytes: text.as_bytes().into(), words }
    }

    /// What no JSON text contains.
    fn never() -> Self {
        Self::new("\0")
    }

    #[inline]
    fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let Some(rest) = bytes.get(at..) else {
            return false;
        };
        match rest.first_chunk::<WORDS>() {
            Some(chunk) if self.bytes.len() <= WORDS => {
                let (words, _) = chunk.as_chunks::<8>();
                let differs =
                    |(word, (wanted, mask)): (&[u8; 8], &(u64, u64))| u64::from_le_bytes(*word) & mask ^ wanted;
                words.iter().zip(&self.words).map(differs).fold(0, std::ops::BitOr::bitor) == 0
            }
            _ => rest.starts_with(&self.bytes),
        }
    }
}

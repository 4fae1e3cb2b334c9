//! From a record's bytes to the payload that is landed.
//!
//! ```text
//!  1f 8b ..        gzip ─┐                        ┌─ text, at most 64 MiB  ─▶ landed decompressed
//!  28 b5 2f fd ..  zstd ─┴─ decompress, capped ───┤
//!                                                 └─ damaged or too large  ─▶ landed as it came, with _error
//!  anything else ────────────────────────────────────────────────────────▶ landed as it came
//! ```

use std::borrow::Cow;
use std::io::Read;

/// Bytes that one compressed record may grow to.
const EXPANDED_BYTES_MAX: u64 = 64 << 20;

/// The payload to land, and what is wrong with it.
pub(super) fn payload(data: &[u8]) -> (Cow<'_, [u8]>, Option<String>) {
    let expanded = if data.starts_with(&[0x1f, 0x8b]) {
        expand("gzip", flate2::read::MultiGzDecoder::new(data))
    } else if data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        match zstd::stream::read::Decoder::new(data) {
            Ok(decoder) => expand("zstd", decoder),
            Err(error) => Err(format!("zstd payload cannot be decompressed: {error}")),
        }
    } else {
        return (Cow::Borrowed(data), None);
    };
    match expanded {
        Ok(text) => (Cow::Owned(text), None),
        Err(error) => (Cow::Borrowed(data), Some(error)),
    }
}

fn expand(codec: &str, decoder: impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    match decoder.take(EXPANDED_BYTES_MAX + 1).read_to_end(&mut text) {
        Ok(_) if text.len() as u64 > EXPANDED_BYTES_MAX => {
            Err(format!("{codec} payload has more than {EXPANDED_BYTES_MAX} bytes decompressed"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{codec} payload cannot be decompressed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_payloads_are_landed_as_text_and_others_as_they_came() {
        let text = br#"{"event_id":1}"#;
        assert_eq!(payload(text), (Cow::Borrowed(&text[..]), None));
        assert_eq!(payload(&gzip(text)), (Cow::Borrowed(&text[..]), None));
        assert_eq!(payload(&zstd::encode_all(&text[..], 1).unwrap()), (Cow::Borrowed(&text[..]), None));
        assert_eq!(payload(b""), (Cow::Borrowed(&b""[..]), None));
        assert_eq!(payload(b"\xff\xfe"), (Cow::Borrowed(&b"\xff\xfe"[..]), None));
    }

    #[test]
    fn damage_is_landed_raw_with_its_reason() {
        let mut cut = gzip(b"some text that is long enough to be cut somewhere in the middle");
        cut.truncate(cut.len() - 9);
        let zeros = vec![0u8; (EXPANDED_BYTES_MAX + 1) as usize];
        let bomb = zstd::encode_all(&zeros[..], 1).unwrap();
        for (data, reason) in
            [(cut, "gzip"), (b"\x28\xb5\x2f\xfdgarbage".to_vec(), "zstd"), (bomb, "more than 67108864")]
        {
            let (landed, error) = payload(&data);
            assert_eq!(landed, data);
            assert!(error.unwrap().contains(reason));
        }
    }
}

//! Links that show one seller's page to whoever has them, for a while.
//!
//! ```text
//!   v1.<expiry>.<user>.<seller>.<HMAC-SHA-256 of what is before it>        user and seller in hexadecimal digits
//! ```
//!
//! A link shows what its maker may see of that seller, as of now: when they lose a right, so does the link. The key is
//! the server's own; with another key all links have ended.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{Error, ErrorKind, Result};

/// The longest that a link can hold, in seconds.
pub const VALID_SECONDS_MAX: i64 = 366 * 24 * 3600;

/// The longest link that is looked at, in bytes.
const BYTES_MAX: usize = 2048;

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Who made it; `None` in a lake without users.
    pub user: Option<String>,
    /// Whose rows it shows.
    pub seller: String,
    /// Until when, in seconds since 1970 UTC.
    pub expires: i64,
}

/// Signs links and knows its own again.
#[derive(Clone)]
pub struct Signer {
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// With this secret.
    ///
    /// # Errors
    /// `Config` for one that cannot be a key.
    pub fn new(secret: &[u8]) -> Result<Self> {
        let wrong = |_| Error::new(ErrorKind::Config, "the key of embedded pages cannot be used");
        Ok(Self { key: Hmac::new_from_slice(secret).map_err(wrong)? })
    }

    /// The text of a link.
    pub fn sign(&self, link: &Link) -> String {
        let said = format!(
            "v1.{}.{}.{}",
            link.expires,
            hex(link.user.as_deref().unwrap_or("").as_bytes()),
            hex(link.seller.as_bytes())
        );
        let mut mac = self.key.clone();
        mac.update(said.as_bytes());
        format!("{said}.{}", hex(&mac.finalize().into_bytes()))
    }

    /// What a text says, if it is one of ours and still holds.
    ///
    /// # Errors
    /// `Unauthenticated`, with one text for all reasons.
    pub fn read(&self, text: &str, now: i64) -> Result<Link> {
        self.verified(text).filter(|link| now < link.expires).ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "this link has ended, or is not one of ours")
                .with_hint("ask whoever gave it to you for a new one")
        })
    }

    fn verified(&self, text: &str) -> Option<Link> {
        let (said, signature) = text.rsplit_once('.').filter(|_| text.len() <= BYTES_MAX)?;
        let mut mac = self.key.clone();
        mac.update(said.as_bytes());
        mac.verify_slice(&bytes(signature)?).ok()?;
        let mut parts = said.split('.');
        let ("v1", expires, user, seller) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?) else {
            return None;
        };
        let text = |digits| String::from_utf8(bytes(digits)?).ok();
        let user = Some(text(user)?).filter(|user| !user.is_empty());
        Some(Link { user, seller: text(seller)?, expires: expires.parse().ok()? })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link { user: Some("root".into()), seller: "S.001".into(), expires: 1_000 }
    }

    #[test]
    fn a_link_is_known_again_until_it_ends() {
        let signer = Signer::new(b"key").unwrap();
        let text = signer.sign(&link());
        assert_eq!(signer.read(&text, 999).unwrap(), link());
        assert_eq!(signer.read(&text, 1_000).unwrap_err().kind(), ErrorKind::Unauthenticated);
        let open = Link { user: None, ..link() };
        assert_eq!(signer.read(&signer.sign(&open), 0).unwrap(), open);
    }

    #[test]
    fn nobody_else_can_make_or_change_one() {
        let signer = Signer::new(b"key").unwrap();
        let text = signer.sign(&link());
        let other = Signer::new(b"another key").unwrap().sign(&link());
        let moved = text.replacen("1000", "9000", 1);
        let seller = text.replace(&hex(b"S.001"), &hex(b"S.002"));
        let short = &text[..text.len() - 2];
        for wrong in [other.as_str(), &moved, &seller, short, "", "v1", "v1.9.a.b.c", &"é".repeat(9), &text.repeat(99)]
        {
            assert!(signer.read(wrong, 0).is_err(), "{wrong}");
        }
    }
}

//! Passwords and tokens: what is kept of them cannot be turned back.
//!
//! ```text
//!   password ──Argon2id, random salt──▶ PHC string          slow on purpose: to be called outside of async tasks
//!   token = "flash_" + 64 random hexadecimal digits ──SHA-256──▶ digest
//! ```

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// What personal access tokens begin with, so that they are found where they should not be.
pub const TOKEN_PREFIX: &str = "flash_";

/// The shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// The longest password, in bytes: hashing takes time with its length.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// The PHC string of a password.
///
/// # Errors
/// `Definition` for one that is too short or too long.
pub fn hash(password: &str) -> Result<String> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::new(ErrorKind::Definition, "the password is too short or too long").with_detail(format!(
            "it needs at least {PASSWORD_CHARS_MIN} characters, and at most {PASSWORD_BYTES_MAX} bytes"
        )));
    }
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
}

/// Whether it is the password of this PHC string. Without one, a password is hashed all the same: an unknown name takes
/// as long as a wrong password.
pub fn verify(password: &str, phc: Option<&str>) -> bool {
    if password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let parsed = phc.and_then(|phc| PasswordHash::new(phc).ok());
    match parsed {
        Some(hash) => Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(),
        None => {
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    }
}

/// 64 random hexadecimal digits.
pub fn random() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// A new personal access token. It is shown once.
pub fn token() -> String {
    format!("{TOKEN_PREFIX}{}", random())
}

/// Has a text the form of one?
pub fn is_token(text: &str) -> bool {
    let digits = text.strip_prefix(TOKEN_PREFIX).unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// SHA-256 in hexadecimal digits.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let phc = hash("correct horse").unwrap();
        assert!(phc.starts_with("$argon2id$") && !phc.contains("horse"));
        assert_ne!(phc, hash("correct horse").unwrap());
        assert!(verify("correct horse", Some(&phc)));
        for (password, phc) in [("wrong horse", Some(phc.as_str())), ("correct horse", None), ("", Some("nonsense"))] {
            assert!(!verify(password, phc));
        }
        assert!(hash("short").is_err() && hash(&"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn tokens_are_random_and_their_digests_stable() {
        assert_ne!(token(), token());
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}

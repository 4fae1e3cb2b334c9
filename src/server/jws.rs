//! Signed tokens: is this signature of that key, and do its claims hold? Pure.
//!
//! ```text
//!   BASE64URL(header) . BASE64URL(claims) . BASE64URL(signature)          RFC 7515 (compact), RFC 7519
//!      { alg, kid }        iss aud exp nbf       over the first two
//!        └ must be what the key is for: RS* PS* for RSA, ES256 for P-256, ES384 for P-384, EdDSA for Ed25519   RFC 7518
//! ```
//!
//! The key says which algorithms there are, never the token; a shared secret or no signature is none of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Seconds that the clocks of the issuer and of this machine may differ.
const LEEWAY_S: f64 = 60.0;

/// Keys of an issuer.
const KEYS_MAX: usize = 1_000;

type Checked<T> = Result<T, String>;

/// The keys of an issuer; those of other kinds or uses are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Vec<Key>);

/// A public key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, where it says.
    algorithm: Option<String>,
    public: Public,
}

#[derive(Debug, Clone)]
enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key as a JWKS has it (RFC 7517).
#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What a token says of its signature.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    alg: String,
    pub(crate) kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

/// What its claims must say.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) now: DateTime<Utc>,
}

/// Claims whose signature and bounds hold.
#[derive(Debug)]
pub(crate) struct Claims {
    all: Map<String, Value>,
    /// Microseconds since 1970 UTC.
    pub(crate) until_us: i64,
}

impl Claims {
    /// A claim that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str)
    }
}

impl Keys {
    /// Of a JWKS.
    pub(crate) fn of(json: &[u8]) -> Checked<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let keys = set.keys.into_iter().take(KEYS_MAX).filter_map(|key| Key::of(serde_json::from_value(key).ok()?));
        Ok(Self(keys.collect()))
    }

    /// The key of this id; a token without an id means the only key there is.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

impl Key {
    fn of(jwk: Jwk) -> Option<Self> {
        if jwk.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        // A point of a curve: that it is not compressed, then both coordinates.
        let point = || Some([&[4], &*bytes(&jwk.x)?, &*bytes(&jwk.y)?].concat());
        let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Public::Rsa(RsaPublicKeyComponents { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? }),
            ("EC", Some("P-256")) => Public::P256(point()?),
            ("EC", Some("P-384")) => Public::P384(point()?),
            ("OKP", Some("Ed25519")) => Public::Ed25519(bytes(&jwk.x)?),
            _ => return None,
        };
        Some(Self { id: jwk.kid, algorithm: jwk.alg, public })
    }

    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Checked<()> {
        if self.algorithm.as_deref().is_some_and(|only| only != algorithm) {
            return Err(format!("its key is not for {algorithm}"));
        }
        let of_point = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature)
        };
        let of_rsa = |algorithm, key: &RsaPublicKeyComponents<Vec<u8>>| key.verify(algorithm, signed, signature);
        let outcome = match (&self.public, algorithm) {
            (Public::Rsa(key), "RS256") => of_rsa(&RSA_PKCS1_2048_8192_SHA256, key),
            (Public::Rsa(key), "RS384") => of_rsa(&RSA_PKCS1_2048_8192_SHA384, key),
            (Public::Rsa(key), "RS512") => of_rsa(&RSA_PKCS1_2048_8192_SHA512, key),
            (Public::Rsa(key), "PS256") => of_rsa(&RSA_PSS_2048_8192_SHA256, key),
            (Public::Rsa(key), "PS384") => of_rsa(&RSA_PSS_2048_8192_SHA384, key),
            (Public::Rsa(key), "PS512") => of_rsa(&RSA_PSS_2048_8192_SHA512, key),
            (Public::P256(key), "ES256") => of_point(&ECDSA_P256_SHA256_FIXED, key),
            (Public::P384(key), "ES384") => of_point(&ECDSA_P384_SHA384_FIXED, key),
            (Public::Ed25519(key), "EdDSA") => of_point(&ED25519, key),
            _ => return Err(format!("its key is not for {algorithm}")),
        };
        outcome.map_err(|_| "its signature is wrong".to_string())
    }
}

impl Header {
    /// Of a token whose signature is not looked at yet.
    pub(crate) fn of(token: &str) -> Checked<Self> {
        part(token.split('.').next().unwrap_or_default())
    }
}

/// The claims, when the signature is the key's and they say what they must.
pub(crate) fn verified(token: &str, key: &Key, expected: &Expected<'_>) -> Checked<Claims> {
    let header = Header::of(token)?;
    if header.crit.is_some() {
        return Err("it has extensions that are not known".into());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or("it is no signed token")?;
    let (_, claims) = signed.split_once('.').ok_or("it is no signed token")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|error| error.to_string())?;
    key.verify(&header.alg, signed.as_bytes(), &signature)?;
    let all: Map<String, Value> = part(claims)?;
    let until_us = bounds(&all, expected)?;
    Ok(Claims { all, until_us })
}

/// A claim of another type than it should have is refused like a wrong one.
fn bounds(claims: &Map<String, Value>, expected: &Expected<'_>) -> Checked<i64> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(format!("it is not from {}", expected.issuer));
    }
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(expected.audience)),
        _ => false,
    };
    if !for_us {
        return Err(format!("it is not for {}", expected.audience));
    }
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970")]
    let now = expected.now.timestamp() as f64;
    let until = claims.get("exp").and_then(Value::as_f64).ok_or("it does not say when it expires")?;
    if until + LEEWAY_S <= now {
        return Err("it has expired".into());
    }
    if let Some(from) = claims.get("nbf")
        && from.as_f64().is_none_or(|from| from - LEEWAY_S > now)
    {
        return Err("it is not valid yet".into());
    }
    #[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
    let until_us = ((until + LEEWAY_S) * 1e6) as i64;
    Ok(until_us)
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Checked<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| format!("it is no signed token: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("it is no signed token: {error}"))
}

#[cfg(test)]
pub(super) mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    /// An issuer's private key.
    pub(crate) struct Signer {
        id: &'static str,
        pair: EcdsaKeyPair,
    }

    fn base64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    impl Signer {
        pub(crate) fn new(id: &'static str) -> Self {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
            Self { id, pair }
        }

        fn jwk(&self) -> Value {
            let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
            json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": base64(x), "y": base64(y) })
        }

        pub(crate) fn keys(&self) -> String {
            json!({ "keys": [self.jwk()] }).to_string()
        }

        fn key(&self) -> Key {
            Keys::of(self.keys().as_bytes()).unwrap().find(Some(self.id)).unwrap().clone()
        }

        pub(crate) fn token(&self, claims: &Value) -> String {
            self.signed(&json!({ "alg": "ES256", "kid": self.id }), claims)
        }

        fn signed(&self, header: &Value, claims: &Value) -> String {
            let text = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
            let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
            format!("{text}.{}", base64(signature.as_ref()))
        }
    }

    pub(crate) fn claims() -> Value {
        let exp = Utc::now().timestamp() + 300;
        json!({ "iss": "https://id.example", "aud": "flash", "sub": "ann", "exp": exp })
    }

    fn check(token: &str, key: &Key) -> Checked<Claims> {
        verified(token, key, &Expected { issuer: "https://id.example", audience: "flash", now: Utc::now() })
    }

    #[test]
    fn a_token_holds_and_every_flaw_is_refused() {
        let signer = Signer::new("a");
        let held = check(&signer.token(&claims()), &signer.key()).unwrap();
        assert_eq!(held.text("sub"), Some("ann"));
        assert!(held.until_us > Utc::now().timestamp_micros());
        let mut many = claims();
        many["aud"] = json!(["x", "flash"]);
        check(&signer.token(&many), &signer.key()).unwrap();

        let now = Utc::now().timestamp();
        for (claim, value) in [
            ("iss", json!("https://else.example")),
            ("iss", json!(["https://id.example"])),
            ("aud", json!("another")),
            ("aud", json!(["x"])),
            ("exp", json!(now - 3600)),
            ("exp", json!((now + 300).to_string())),
            ("exp", Value::Null),
            ("nbf", json!(now + 3600)),
            ("nbf", json!("soon")),
        ] {
            let mut wrong = claims();
            wrong[claim] = value.clone();
            assert!(check(&signer.token(&wrong), &signer.key()).is_err(), "{claim} = {value}");
        }
        for gone in ["iss", "aud", "exp"] {
            let mut wrong = claims();
            wrong.as_object_mut().unwrap().remove(gone);
            assert!(check(&signer.token(&wrong), &signer.key()).is_err(), "without {gone}");
        }
    }

    #[test]
    fn only_the_key_of_the_issuer_signs() {
        let (signer, other) = (Signer::new("a"), Signer::new("a"));
        let token = signer.token(&claims());
        assert!(check(&other.token(&claims()), &signer.key()).is_err(), "another's signature");
        let mut changed = claims();
        changed["sub"] = json!("root");
        let parts = token.split('.').collect::<Vec<_>>();
        let forged = format!("{}.{}.{}", parts[0], base64(changed.to_string().as_bytes()), parts[2]);
        assert_eq!(check(&forged, &signer.key()).unwrap_err(), "its signature is wrong");
        for alg in ["none", "None", "HS256", "RS256", "ES384", ""] {
            let header = json!({ "alg": alg, "kid": "a" });
            assert!(check(&signer.signed(&header, &claims()), &signer.key()).is_err(), "{alg}");
            let unsigned = format!("{}.{}.", base64(header.to_string().as_bytes()), parts[1]);
            assert!(check(&unsigned, &signer.key()).is_err(), "{alg} without a signature");
        }
        let critical = json!({ "alg": "ES256", "kid": "a", "crit": ["exp"], "exp": 1 });
        assert!(check(&signer.signed(&critical, &claims()), &signer.key()).is_err());
        for text in ["", "a", "a.b", "a.b.c", "..", "é.é.é", &parts[..2].join(".")] {
            assert!(check(text, &signer.key()).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_of_other_kinds_and_uses_are_left_out() {
        let signer = Signer::new("a");
        let mut encrypting = signer.jwk();
        encrypting["use"] = json!("enc");
        encrypting["kid"] = json!("e");
        let secret = json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0" });
        let set = json!({ "keys": [encrypting, secret, signer.jwk(), { "kty": "EC" }, 7] }).to_string();
        let keys = Keys::of(set.as_bytes()).unwrap();
        assert_eq!(keys.0.len(), 1);
        assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
        assert!(keys.find(Some("s")).is_none() && keys.find(Some("e")).is_none());
        let mut only = signer.jwk();
        only["alg"] = json!("ES384");
        let keys = Keys::of(json!({ "keys": [only] }).to_string().as_bytes()).unwrap();
        assert!(check(&signer.token(&claims()), keys.find(None).unwrap()).is_err(), "a key for something else");
        assert!(Keys::of(b"[]").is_err());
    }

    /// A key and signatures that OpenSSL made.
    #[test]
    fn an_rsa_signature_of_another_implementation_is_right() {
        let n = "1hX_hlM1N1LZ4oqnhneiGJ6ZMSuj0oz_udv9QKPaEnyNRF4WTc99bPRmEBWz2hzNb55aiFcAdTU-Mf7UzLrwinVrrMg243gT\
                 kpbPmJNuIFZrT1Pc88EOgkc7IBqFuiF8jb0zfhcegCMoznmQufMorW-aySHVXM7w6ayaRi35bYA3AG-nS4N_a0cAQZxB5DEk\
                 UxXjA792ROEWDt8RT76pRti8hcliURJKeDjCryMHmnXofxWLkXJSEiprs35dUHopfJw_QOwlR25FsEP2q-FywGCRXtTRp_1t\
                 upH5k9Z8WoUtdxmWE3E7KzSUOi0HAXVOU_2XEiK8tPekW7pTQ-lVYw";
        let by_pkcs1 = "TephgjeZP_a6murZBHL6jnwlovaqI5XJ0whBiYv7geMWUFIn2nXDhrIdYJuCYIUaWaxMdgb1sRbKS5t7tUvCYTL1cLlAoFuN\
                 vf81jyy33ZTiCLFlItDziYxqhGhMbKlEqGkxKfNOiee_eEtUJBiCz4zqt0A4jhDQHKdQFqQxmmRprwvm3WlRfszlM0dqa30c\
                 Tb-SKseXrs0E5TP91lmCPOqd3EWFKxLcpqCxH_zsOQxCz0U1w-ZuB45MEUIyMPXcsBA5iDITtFnrBlrpHoJLAlkcaHVoFaT-\
                 D1hV1Ks6TaL3Z-Hakx5htIm5Y8PnZ4AMtOq0YJUBAnR_e7MQzV0U0Q";
        let by_pss = "TH9RDBVWBQQBXMc8BNM_EiQamIA5BMAv_1JQcgmVii0dN-NWg0pMg-XuLVdmZR7XZoxGhZ9ht6PwJ55SQi4sNGwg72iR01Ia\
                 -nyAB7cWA-3q_Ho2dkar-oWVmJgyLdydh1Hg35ESQu_Vx68mlwH-J3ylpiLtOLGLrSjjQ7DKsgqYl22Z13feBXf90vLXAyKM\
                 IDE-NpANTi6Rm2JcmIKhPJvloRxiE30VXhTdVxYiNj6Y6WyuVhMYwZ7mSSH3x7VKEV8wa2BPgomVU4EchgZ9s_yvVgJ-nOFh\
                 ALe6naa3_flw-N6G8TtgI1nOHyN1n2R2cG2E8DBvOiA2HzzSdDfdSw";
        let key = json!({ "keys": [{ "kty": "RSA", "n": n, "e": "AQAB" }] }).to_string();
        let keys = Keys::of(key.as_bytes()).unwrap();
        let key = keys.find(None).unwrap();
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UifQ";
        for (algorithm, other, signature) in [("RS256", "PS256", by_pkcs1), ("PS256", "RS256", by_pss)] {
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            key.verify(algorithm, signed.as_bytes(), &signature).unwrap();
            assert!(key.verify(other, signed.as_bytes(), &signature).is_err(), "{other}");
            assert!(key.verify(algorithm, &signed.as_bytes()[1..], &signature).is_err());
        }
    }
}

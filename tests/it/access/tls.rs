//! The wire: certificates, those of clients, new ones while the server runs, and tokens of an issuer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flashcommerce::cli::remote::{Login, Remote, Trust};
use flashcommerce::error::ErrorKind;
use flashcommerce::server::{Identity, Issuer, IssuerOptions, Security, Tls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::Door;
use crate::engine::harness::lines;

/// How long a new certificate may take to be served.
const RELOAD_MAX: Duration = Duration::from_secs(20);

/// Whose certificate is for the address.
const SERVER: &str = "server";

/// An authority, and the files that it has signed.
struct Authority {
    signer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), signer.pem()).unwrap();
        Self { signer, folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate of this name, and its key.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let names = if name == SERVER { "127.0.0.1" } else { name };
        let params = CertificateParams::new(vec![names.to_string()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.signer).unwrap();
        let at = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        std::fs::write(at("pem"), certificate.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        (at("pem"), at("key"))
    }

    fn security(&self, client_ca: Option<PathBuf>) -> Security {
        let (certificate, key) = self.sign(SERVER);
        Security { tls: Some(Tls::load(TlsFiles { certificate, key, client_ca }).unwrap()), insecure: false }
    }

    fn trust(&self, identity: Option<(PathBuf, PathBuf)>) -> Trust {
        Trust { ca: Some(self.ca()), identity }
    }
}

fn password(user: &str, password: &str) -> Login {
    Login::Password { user: user.into(), password: password.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_doors_speak_tls_and_nothing_else() {
    let authority = Authority::new();
    let door = Door::protected(authority.security(None), Identity::default()).await;
    let url = format!("grpc+tls://{}", door.flight);
    let login = password("s1", "sells as S1");
    let mut remote = Remote::connect(&url, &login, &authority.trust(None)).await.unwrap();
    assert_eq!(lines(&remote.query("SELECT DISTINCT shop FROM s.clean").await.unwrap().batches), ["S1"]);
    let stranger = Authority::new();
    let refused = Remote::connect(&url, &login, &stranger.trust(None)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Transient);
    assert!(refused.hint().is_some_and(|hint| hint.contains("--tls-ca")), "{refused}");
    let plain = format!("grpc://{}", door.flight);
    assert!(Remote::connect(&plain, &login, &Trust::default()).await.is_err(), "plaintext to a port with TLS");

    let root = reqwest::Certificate::from_pem(&std::fs::read(authority.ca()).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    let answer = client.get(format!("https://{}/healthz", door.http)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
    assert!(client.get(format!("http://{}/healthz", door.http)).send().await.is_err());

    // Who connects and says nothing holds nobody up.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(tokio::net::TcpStream::connect(door.http).await.unwrap());
    }
    let mut garbage = tokio::net::TcpStream::connect(door.http).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest).await;
    let answer = client.get(format!("https://{}/healthz", door.http)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_somebody_is() {
    let authority = Authority::new();
    let door = Door::protected(authority.security(Some(authority.ca())), Identity::default()).await;
    let url = format!("grpc+tls://{}", door.flight);
    let shops = "SELECT DISTINCT shop FROM s.clean";
    let trust = authority.trust(Some(authority.sign("s2")));
    let mut remote = Remote::connect(&url, &Login::Anonymous, &trust).await.unwrap();
    assert_eq!(lines(&remote.query(shops).await.unwrap().batches), ["S2"]);
    // A password says more than the certificate of the machine that it comes from.
    let mut remote = Remote::connect(&url, &password("s1", "sells as S1"), &trust).await.unwrap();
    assert_eq!(lines(&remote.query(shops).await.unwrap().batches), ["S1"]);

    let ghost = authority.trust(Some(authority.sign("ghost")));
    let mut remote = Remote::connect(&url, &Login::Anonymous, &ghost).await.unwrap();
    assert_eq!(remote.query(shops).await.unwrap_err().kind(), ErrorKind::Unauthenticated, "no user of that name");
    let mut remote = Remote::connect(&url, &Login::Anonymous, &authority.trust(None)).await.unwrap();
    assert_eq!(remote.query(shops).await.unwrap_err().kind(), ErrorKind::Unauthenticated, "no certificate");
    let other = Authority::new();
    let forged = Trust { ca: Some(authority.ca()), identity: Some(other.sign("root")) };
    let outcome = match Remote::connect(&url, &Login::Anonymous, &forged).await {
        Ok(mut remote) => remote.query(shops).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(outcome.is_err(), "signed by somebody else");
    door.lake.query("ALTER USER s2 DISABLE").await;
    let mut remote = Remote::connect(&url, &Login::Anonymous, &trust).await.unwrap();
    assert_eq!(remote.query(shops).await.unwrap_err().kind(), ErrorKind::Unauthenticated, "disabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let door = Door::protected(first.security(None), Identity::default()).await;
    let url = format!("grpc+tls://{}", door.flight);
    let login = password("s1", "sells as S1");
    let mut before = Remote::connect(&url, &login, &first.trust(None)).await.unwrap();
    // Half of a change: the certificate of a key that is not there yet.
    let (certificate, key) = second.sign(SERVER);
    std::fs::copy(certificate, first.folder.path().join("server.pem")).unwrap();
    Remote::connect(&url, &login, &first.trust(None)).await.expect("the last one stays");
    std::fs::copy(key, first.folder.path().join("server.key")).unwrap();
    let begin = Instant::now();
    while let Err(error) = Remote::connect(&url, &login, &second.trust(None)).await {
        assert!(begin.elapsed() < RELOAD_MAX, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(Remote::connect(&url, &login, &first.trust(None)).await.is_err());
    before.query("SELECT 1").await.expect("a connection goes on with what it began with");

    let (certificate, _) = first.sign("a");
    let (_, key) = first.sign("b");
    let error = Tls::load(TlsFiles { certificate, key, client_ca: None }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("is") && error.hint().is_some_and(|hint| hint.contains("b.key")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_issuer_opens_what_sql_says() {
    let folder = tempfile::tempdir().unwrap();
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let keys = folder.path().join("keys.json");
    let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": text(x), "y": text(y) });
    std::fs::write(&keys, json!({ "keys": [jwk] }).to_string()).unwrap();
    let (issuer, audience) = ("https://id.example".to_string(), "flash".to_string());
    let options = IssuerOptions { issuer, audience, keys: keys.display().to_string(), user_claim: "name".into() };
    let identity = Identity { issuer: Some(Issuer::start(options).await.unwrap()), ..Identity::default() };
    let door = Door::protected(Security::default(), identity).await;
    let token = |user: &str, seconds: i64| {
        let exp = chrono::Utc::now().timestamp() + seconds;
        let claims = json!({ "iss": "https://id.example", "aud": "flash", "name": user, "exp": exp });
        let part = |value: Value| text(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(json!({ "alg": "ES256", "kid": "k" })), part(claims));
        format!("{signed}.{}", text(pair.sign(&random, signed.as_bytes()).unwrap().as_ref()))
    };
    let url = format!("grpc://{}", door.flight);
    let shops = async |token: String| {
        let mut remote = Remote::connect(&url, &Login::Token(token), &Trust::default()).await?;
        Ok::<_, flashcommerce::error::Error>(lines(&remote.query("SELECT DISTINCT shop FROM s.clean").await?.batches))
    };
    assert_eq!(shops(token("s3", 60)).await.unwrap(), ["S3"]);
    for (refused, why) in [(token("ghost", 60), "no user"), (token("s3", -3600), "expired"), ("a.b.c".into(), "none")] {
        assert_eq!(shops(refused).await.unwrap_err().kind(), ErrorKind::Unauthenticated, "{why}");
    }
    let client = reqwest::Client::new();
    let asked = client.post(format!("http://{}/v1/sql", door.http)).body("SELECT DISTINCT shop FROM s.clean");
    let answer = asked.bearer_auth(token("s2", 60)).header("accept", "text/csv").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "shop\nS2\n");
    let plain = Door::open().await;
    let url = format!("grpc://{}", plain.flight);
    let login = Login::Token(token("s3", 60));
    let mut remote = Remote::connect(&url, &login, &Trust::default()).await.unwrap();
    assert_eq!(remote.query("SELECT 1").await.unwrap_err().kind(), ErrorKind::Unauthenticated, "nobody's tokens");
    drop(Arc::clone(&plain.lake));
}

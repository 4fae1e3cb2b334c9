//! TLS: the certificate, its key, and who signs those of clients.
//!
//! ```text
//!   files ─▶ load ─▶ ServerConfig ─▶ handshakes                                  a mistake at the start: nothing starts
//!     └─ looked at again by a handshake, at most every LOOK_INTERVAL
//!            changed ─▶ load ─▶ the next ServerConfig                            a mistake later: logged, the last one stays
//! ```
//!
//! Connections that are there keep the certificate that they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

use crate::error::{Error, ErrorKind, Result};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What is spoken under TLS: HTTP/2 for gRPC, both for browsers.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate is. All files are PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// A certificate that follows its files.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
    looked_at: Instant,
}

/// By which a changed file is known.
type Stamp = Option<(SystemTime, u64)>;

impl Tls {
    /// Read the files.
    ///
    /// # Errors
    /// `Config` for a file that cannot be read, is not PEM, or does not fit the others.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>> {
        let stamps = files.stamps();
        let config = files.config()?;
        Ok(Arc::new(Self { files, loaded: Mutex::new(Loaded { config, stamps, looked_at: Instant::now() }) }))
    }

    /// What to shake hands with now. Reads files at times, so not for a thread that must not wait.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock();
        if loaded.looked_at.elapsed() < LOOK_INTERVAL {
            return Arc::clone(&loaded.config);
        }
        loaded.looked_at = Instant::now();
        let stamps = self.files.stamps();
        if stamps != loaded.stamps {
            match self.files.config() {
                Ok(config) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate is read again");
                    (loaded.config, loaded.stamps) = (config, stamps);
                }
                // Half of a change, as a rule: the key is written after the certificate.
                Err(error) => tracing::error!(%error, "the changed certificate cannot be used; the last one stays"),
            }
        }
        Arc::clone(&loaded.config)
    }
}

impl TlsFiles {
    fn stamps(&self) -> Vec<Stamp> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let stamp = |path: &PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        files.into_iter().flatten().map(stamp).collect()
    }

    fn config(&self) -> Result<Arc<ServerConfig>> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unusable(&self.key, error).with_hint("--tls-key wants the private key as PEM"))?;
        // Named, because two providers are compiled in and neither would be taken by itself.
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(path, error))?;
                }
                // Those without a certificate may still have a password or a token.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.allow_unauthenticated().build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, error))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            unusable(&self.certificate, error)
                .with_hint(format!("is {} the key of this certificate?", self.key.display()))
        })?;
        config.alpn_protocols = PROTOCOLS.map(Vec::from).to_vec();
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unusable(path, "there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("TLS: {} cannot be used", path.display())).with_detail(why.to_string())
}

/// Whom a client's certificate names: its only DNS name.
pub(crate) fn named(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    // Two names are nobody's.
    names.next().filter(|_| names.next().is_none()).map(String::from)
}

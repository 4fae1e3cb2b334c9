//! The flags that lead to a running server.

use std::path::PathBuf;

use super::remote::{Login, Remote, Trust};
use crate::error::{Error, ErrorKind, Result};

/// A server, and who asks it.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// A running server, such as grpc://127.0.0.1:50051 or grpc+tls://shop.example:50051
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Who asks the server; the password is read from FLASH_PASSWORD
    #[arg(long, value_name = "NAME", env = "FLASH_USER")]
    user: Option<String>,
    #[arg(long, env = "FLASH_PASSWORD", hide = true, hide_env_values = true)]
    password: Option<String>,
    /// A personal access token for the server; better given as FLASH_TOKEN, which others on this machine do not see
    #[arg(long, value_name = "TOKEN", env = "FLASH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Who signs the server's certificate, as PEM; this machine's authorities unless given
    #[arg(long, value_name = "FILE", env = "FLASH_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// A certificate that says to the server who asks, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "server")]
    tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", requires = "server")]
    tls_key: Option<PathBuf>,
}

impl Flags {
    /// A connection, where a server is named.
    ///
    /// # Errors
    /// `Config` for a user without a password; as `Remote::connect`.
    pub async fn connect(self) -> Result<Option<Remote>> {
        let Some(url) = self.server else { return Ok(None) };
        let login = login(self.user, self.password, self.token)?;
        let trust = Trust { ca: self.tls_ca, identity: self.tls_cert.zip(self.tls_key) };
        Remote::connect(&url, &login, &trust).await.map(Some)
    }

    /// The server's address as it was given.
    pub fn url(&self) -> Option<&str> {
        self.server.as_deref()
    }
}

fn login(user: Option<String>, password: Option<String>, token: Option<String>) -> Result<Login> {
    match (user, password, token) {
        (_, _, Some(token)) => Ok(Login::Token(token)),
        (Some(user), Some(password), None) => Ok(Login::Password { user, password }),
        (Some(user), None, None) => Err(Error::new(ErrorKind::Config, format!("there is no password for {user}"))
            .with_hint("put it into the environment variable FLASH_PASSWORD")),
        (None, _, None) => Ok(Login::Anonymous),
    }
}

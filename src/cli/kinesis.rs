//! `flash kinesis`: a Kinesis endpoint in memory, to develop and test against.
//!
//! ```text
//!   flash simulate --stream S --endpoint-url URL ──▶ flash kinesis ◀── flash run (AWS_ENDPOINT_URL_KINESIS=URL)
//! ```

use std::net::SocketAddr;

use serde_json::json;

use super::Context;
use super::serve;
use crate::error::{Error, ErrorKind, Result};
use crate::server;
use crate::source::embedded::{EmbeddedKinesis, EmbeddedOptions};

/// Flags of `flash kinesis`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; on the loopback interface only, since nothing is asked for credentials
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4567", value_parser = serve::address)]
    listen: SocketAddr,
    /// A stream that is there from the start; others can be made the AWS way
    #[arg(long, value_name = "NAME", default_value = "E_com")]
    stream: String,
    /// Its shards
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shards: u32,
    /// Throttle writers as AWS does: 1,000 records and 1 MiB a second and shard
    #[arg(long)]
    enforce_limits: bool,
}

/// Serve until Ctrl-C or SIGTERM.
///
/// # Errors
/// `Config` for an address that is not loopback, `Source` when the port is taken.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let stop = serve::shutdown_on_signals(context.terminal)?;
    if !args.listen.ip().is_loopback() {
        return Err(Error::new(ErrorKind::Config, format!("--listen: {} is not a loopback address", args.listen))
            .with_detail("the stream has no log-in: everybody who reaches it could read and write it")
            .with_hint("use 127.0.0.1 or [::1]"));
    }
    let listener = server::bind(args.listen, "--listen").await?;
    let options = EmbeddedOptions {
        stream: args.stream,
        shards: args.shards,
        enforce_limits: args.enforce_limits,
        ..EmbeddedOptions::default()
    };
    let kinesis = EmbeddedKinesis::serve(listener, options).await?;
    context.terminal.say(&format!(
        "stream {} with {} shards, in memory: what is put is gone with this process\n\
         export AWS_ENDPOINT_URL_KINESIS={} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any",
        kinesis.stream(),
        args.shards,
        kinesis.endpoint_url()
    ));
    context
        .terminal
        .data(&json!({ "endpoint_url": kinesis.endpoint_url(), "stream": kinesis.stream() }).to_string())?;
    stop.cancelled().await;
    Ok(())
}

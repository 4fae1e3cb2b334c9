//! The `flash` binary: read the command line and the settings, run one verb, print an error with its hint.
#![allow(clippy::print_stderr, reason = "the last word of the process goes to stderr")]

use std::backtrace::{Backtrace, BacktraceStatus};
use std::process::ExitCode;

use clap::Parser;
use flashcommerce::cli::{self, Cli};
use flashcommerce::config::Config;
use flashcommerce::error::Result;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code of a bug of ours (`EX_SOFTWARE`).
const INTERNAL_ERROR: u8 = 70;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        eprintln!("internal error: {text}; please report this line, and what you did");
        // Only where RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            eprintln!("{trace}");
        }
    }));
    // A panic in a task of the runtime (one query, say) fails that task; here ends what panics outside of one.
    let Ok(result) = std::panic::catch_unwind(|| run(Cli::parse())) else {
        return ExitCode::from(INTERNAL_ERROR);
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.message() == cli::terminal::OUTPUT_CLOSED => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", error.render());
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<u8> {
    cli::start(cli, Config::from_env()?)
}

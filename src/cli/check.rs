//! `vestibule check`: every problem of a configuration at once, and what to register at each provider.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{ConfigArgs, complain, say};
use crate::config::{self, Severity};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Fail on warnings too, and name everything that is weaker than its default
    #[arg(long)]
    strict: bool,
}

/// Reads the configuration as `run` would, without binding or calling anything.
pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let path = args.config.path();
    let least = if args.strict { Severity::Weaker } else { Severity::Warning };
    let coloured = std::io::stderr().is_terminal();
    let loaded = match config::load(&path, &config::System) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(least, coloured));
            return ExitCode::FAILURE;
        }
    };
    let told = loaded.report.render(least, coloured);
    if !told.is_empty() {
        complain(&told);
    }
    say(&config::registrations(&loaded.config).to_string());
    if args.strict && !told.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

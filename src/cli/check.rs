//! `vestibule check`: every problem of a configuration at once, and what to register at each provider; with `--online`,
//! whether the providers answer as it expects.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{ConfigArgs, complain, online, say};
use crate::config::{self, Severity};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Fail on warnings too, and name everything that is weaker than its default
    #[arg(long)]
    strict: bool,
    /// Ask the providers, too: metadata, keys, clocks, and a made-up code that shows whether they know each secret
    #[arg(long)]
    online: bool,
}

/// Reads the configuration as `run` would, without binding anything; nobody is called but by `--online`.
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
    let offline = !args.strict || told.is_empty();
    let online = !args.online || online::ask(&loaded.config, args.strict);
    if offline && online { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

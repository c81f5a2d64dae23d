//! `vestibule caddyfile`: the Caddyfile that fits a configuration.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{ConfigArgs, complain, say};
use crate::config::{self, FrontEnd, Severity};

/// Prints, for every site of the configuration, which requests Caddy hands to which listener, and what serves the rest:
/// by path, and by User-Agent where browsers and other programs share paths. It suits Caddy from 2.6 to 2.11. Where
/// Caddy must know more than the configuration says, such as the address of an app that is only asked about, the
/// comments tell what to fill in.
#[derive(Debug, Args)]
pub(super) struct CaddyfileArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What Caddy serves beside it: a folder of files, or the address of a server
    #[arg(long, value_name = "FOLDER|URL", default_value = "/srv/spa")]
    front_end: String,
}

/// Reads the configuration as `check` does, and prints the Caddyfile; nothing is bound, called or written.
pub(super) fn caddyfile(args: &CaddyfileArgs) -> ExitCode {
    let path = args.config.path();
    let coloured = std::io::stderr().is_terminal();
    let loaded = match config::load(&path, &config::System) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(Severity::Warning, coloured));
            return ExitCode::FAILURE;
        }
    };
    let file = path.file_name().unwrap_or(path.as_os_str()).display();
    let text = config::caddyfile(&loaded.config, &FrontEnd::parse(&args.front_end));
    say(&format!("# For Caddy 2.6 to 2.11 in front of Vestibule, as {file} has it.\n\n{text}"));
    ExitCode::SUCCESS
}

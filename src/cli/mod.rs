//! The command line: what an operator types, and what comes back.
//!
//! Exit codes: 0 all is well, 1 it is not and the report says why, 2 the command line itself was wrong.

mod caddyfile;
mod call;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod explain;
mod healthcheck;
mod init;
mod log;
mod online;
mod pages;
mod manager;
mod run;
mod sessions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// Where the configuration is looked for when nobody says, in this order.
const DEFAULT_PATHS: [&str; 2] = ["vestibule.toml", "/etc/vestibule/vestibule.toml"];

/// A hot-reloading OpenID Connect sidecar for Caddy.
#[derive(Debug, Parser)]
#[command(name = "vestibule", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, and follow every change of the configuration file without a restart
    Run(ConfigArgs),
    /// Read the configuration, report every problem, and print what to register at each provider
    Check(check::CheckArgs),
    /// Say what an edit would change, and what that means for those who are logged in
    Diff(diff::DiffArgs),
    /// Say what would become of a request, and why
    Explain(explain::ExplainArgs),
    /// Write a first configuration, a session key and a Caddyfile, and say what to register at the provider
    Init(init::InitArgs),
    /// Print the Caddyfile that fits the configuration
    Caddyfile(caddyfile::CaddyfileArgs),
    /// Make a session key
    Keygen(init::KeygenArgs),
    /// Ask the running process how it is, for container engines and scripts
    Healthcheck(healthcheck::HealthcheckArgs),
    /// List who is logged in at the running process, or end sessions
    Sessions(sessions::SessionsArgs),
    /// Print the JSON schema of the configuration, by which editors complete its keys
    Schema,
    /// Print what completes these commands in a shell
    Completions(pages::CompletionsArgs),
    /// Print the manual page, or write those of all commands
    Man(pages::ManArgs),
    /// Start a provider, a front end, an API, Vestibule and Caddy on this machine, to click through
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file [default: ./vestibule.toml, else /etc/vestibule/vestibule.toml]
    #[arg(long, short, value_name = "FILE", env = "VESTIBULE_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The file to read. When there is none anywhere, the first default, so that the report names it.
    fn path(&self) -> PathBuf {
        let exists = || DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
        self.config.clone().or_else(exists).unwrap_or_else(|| DEFAULT_PATHS.iter().take(1).collect())
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // Every TLS connection of the process uses the one crypto library; an error means that it was installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().command {
        Command::Run(args) => run::run(&args.path()),
        Command::Check(args) => check::check(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Init(args) => init::init(&args),
        Command::Caddyfile(args) => caddyfile::caddyfile(&args),
        Command::Keygen(args) => init::keygen(&args),
        Command::Healthcheck(args) => healthcheck::healthcheck(&args),
        Command::Sessions(args) => sessions::sessions(&args),
        Command::Schema => {
            say(&crate::config::json_schema());
            ExitCode::SUCCESS
        }
        Command::Completions(args) => pages::completions(&args, &mut Cli::command()),
        Command::Man(args) => pages::man(&args, Cli::command()),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(args),
    }
}

/// Prints to standard error, in colour on a terminal. A closed pipe is nobody's fault.
fn complain(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(anstream::stderr(), "{}", text.trim_end());
}

/// Prints to standard output, in colour on a terminal.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(anstream::stdout(), "{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

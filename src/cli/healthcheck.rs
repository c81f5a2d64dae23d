//! `vestibule healthcheck`: asks the running process how it is.

use std::process::ExitCode;

use clap::Args;

use crate::cli::call::{Question, ask};
use crate::cli::{ConfigArgs, complain, say};
use crate::config;

/// Asks /readyz where the configuration says that the process answers its operators (`server.metrics_listen`). A file that
/// was broken by an edit is no illness: the process goes on with what it read before.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when the process is well, 1 when it is not, or does not answer.")]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask no more than whether the process answers at all: /livez
    #[arg(long)]
    live: bool,
}

/// Prints the answer.
pub(super) fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let Some(listen) = config::metrics_listen(&args.config.path(), &config::System) else {
        complain("error: `server.metrics_listen` is \"off\", so there is nobody to ask");
        return ExitCode::FAILURE;
    };
    let path = if args.live { "/livez" } else { "/readyz?verbose" };
    match ask(&listen, &Question::get(path)) {
        Ok((200, body)) => {
            say(&body);
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            complain(&format!("error: {listen} answers {status}: {body}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("error: nobody answers at {listen}: {error}"));
            ExitCode::FAILURE
        }
    }
}

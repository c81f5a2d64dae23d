//! `vestibule completions` and `vestibule man`: what shells and `man` know of these commands, written from the commands
//! themselves.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{complain, say};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        vestibule completions bash > /etc/bash_completion.d/vestibule\n  \
                        vestibule completions zsh > /usr/share/zsh/site-functions/_vestibule\n  \
                        vestibule completions fish > /etc/fish/completions/vestibule.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script for a shell.
pub(super) fn completions(args: &CompletionsArgs, command: &mut Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "vestibule", &mut script);
    print(&script)
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        vestibule man | man -l -\n  \
                        vestibule man --folder /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write the pages of all commands there: vestibule.1, vestibule-run.1 and so on
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the page of the program, or writes all pages.
pub(super) fn man(args: &ManArgs, command: Command) -> ExitCode {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        return match Man::new(command).render(&mut page) {
            Ok(()) => print(&page),
            Err(error) => fail(&error),
        };
    };
    match clap_mangen::generate_to(command, folder) {
        Ok(()) => {
            say(&format!("wrote the manual pages to {}", folder.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("error: cannot write to {}: {error}", folder.display()));
            ExitCode::FAILURE
        }
    }
}

/// As it is: what reads it knows its own colours. A closed pipe is nobody's fault.
fn print(text: &[u8]) -> ExitCode {
    let _ = std::io::stdout().write_all(text);
    ExitCode::SUCCESS
}

fn fail(error: &std::io::Error) -> ExitCode {
    complain(&format!("error: {error}"));
    ExitCode::FAILURE
}

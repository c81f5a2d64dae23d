//! `vestibule init` and `vestibule keygen`: from nothing to files that work.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::{complain, say};
use crate::config::{self, FrontEnd, NewFile, Severity, Starter, WriteError};
use crate::web;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Issuer of your provider, such as https://id.example.com/realms/corp
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Name of your client there
    #[arg(long, value_name = "NAME")]
    client_id: Option<String>,
    /// What browsers come to, such as https://app.example.com
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Your API, which gets what comes to /api/, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// What Caddy serves beside it: a folder of files, or the address of a server
    #[arg(long, value_name = "FOLDER|URL", default_value = "/srv/spa")]
    front_end: String,
    /// Folder to write to
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// File to write the key to, with mode 0600; without it, the key is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes config, key and Caddyfile, and says what to do next.
pub(super) fn init(args: &InitArgs) -> ExitCode {
    let starter = match answers(args) {
        Ok(starter) => starter,
        Err(missing) => {
            complain(&format!("error: {}", missing.join("\nerror: ")));
            return ExitCode::from(2);
        }
    };
    let config_path = args.out.join("vestibule.toml");
    let loaded = match starter.judge(&config_path) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(Severity::Warning, std::io::stderr().is_terminal()));
            complain("Nothing was written.");
            return ExitCode::FAILURE;
        }
    };
    let Some(key) = session_key() else { return ExitCode::FAILURE };
    let files = starter.files(&loaded, &FrontEnd::parse(&args.front_end), key);
    if let Err(error) = NewFile::write_all(&files, &args.out) {
        refuse(&error);
        return ExitCode::FAILURE;
    }
    say(&next_steps(&args.out, &files, &config::registrations(&loaded.config).to_string()));
    ExitCode::SUCCESS
}

/// Prints or writes a new session key.
pub(super) fn keygen(args: &KeygenArgs) -> ExitCode {
    let Some(key) = session_key() else { return ExitCode::FAILURE };
    let Some(path) = &args.out else {
        say(&key);
        return ExitCode::SUCCESS;
    };
    match (NewFile { name: "session.key", text: key, mode: 0o600 }).write(path) {
        Ok(()) => {
            say(&format!("Wrote {}.", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            refuse(&error);
            ExitCode::FAILURE
        }
    }
}

/// A key of 256 random bits.
fn session_key() -> Option<Zeroizing<String>> {
    web::token().map(Zeroizing::new).map_err(|error| complain(&format!("error: {error}"))).ok()
}

fn refuse(error: &WriteError) {
    complain(&format!("error: {error}\nNothing was written."));
}

/// What the flags say; what they leave out is asked, if there is a person to ask.
///
/// # Errors
/// What is missing.
fn answers(args: &InitArgs) -> Result<Starter, Vec<String>> {
    let mut missing = Vec::new();
    let mut need = |flag: &str, question: &str, given: &Option<String>| {
        let answer = given.clone().or_else(|| ask(question));
        answer.unwrap_or_else(|| {
            missing.push(format!("--{flag} is missing ({question})"));
            String::new()
        })
    };
    let starter = Starter {
        issuer: need("issuer", "Issuer of your provider, such as https://id.example.com/realms/corp", &args.issuer),
        client_id: need("client-id", "Name of your client there, such as web", &args.client_id),
        public_url: need("public-url", "What browsers come to, such as https://app.example.com", &args.public_url),
        upstream: need("upstream", "Your API, such as http://127.0.0.1:8080", &args.upstream),
    };
    if missing.is_empty() { Ok(starter) } else { Err(missing) }
}

/// Asks on the terminal; `None` where there is none, or nobody answers.
fn ask(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    complain(&format!("{question}:"));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).ok()?;
    let answer = line.trim();
    (!answer.is_empty()).then(|| answer.to_owned())
}

fn next_steps(folder: &Path, files: &[NewFile], registrations: &str) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let written: Vec<&str> = files.iter().map(|file| file.name).collect();
    let (config, secret, caddyfile) = (path("vestibule.toml"), path("web.secret"), path("Caddyfile"));
    format!(
        "Wrote {} to {}.\n\n{registrations}\n\
         Put the client's secret into {secret}: it is empty, and only you can read it.\n\
         Then start the two, each in a terminal of its own:\n\n  \
         vestibule run --config {config}\n  caddy run --config {caddyfile}\n",
        written.join(", "),
        folder.display()
    )
}

//! Why a demo cannot go on, in words that say what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::reload::StartError;

/// Why there is no demo.
#[derive(Debug)]
pub enum Trouble {
    /// `--front` is no address of a server.
    FrontEnd(String),
    /// The program that somebody named is no Caddy that can be used.
    NamedCaddy {
        /// What was named.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no Caddy, and none could be fetched.
    NoCaddy {
        /// Where one was looked for.
        looked: Vec<PathBuf>,
        /// Why none was fetched.
        why: String,
    },
    /// The port that somebody chose is not free.
    Port(u16, io::Error),
    /// Caddy ended, or never answered.
    CaddyEnded {
        /// What happened.
        why: String,
        /// Its last words.
        log: String,
    },
    /// Vestibule does not start.
    Vestibule(StartError),
    /// This machine refuses something ordinary.
    System(&'static str, io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrontEnd(given) => write!(
                formatter,
                "`--front {given}` is no address of a server. Give scheme, host and port, such as \
                 `--front http://localhost:5173`."
            ),
            Self::NamedCaddy { path, why } => write!(
                formatter,
                "{} cannot be used: {why}. Leave out `--caddy` (and CADDY_BIN), and one is found or fetched.",
                path.display()
            ),
            Self::NoCaddy { looked, why } => no_caddy(formatter, looked, why),
            Self::Port(port, why) => {
                write!(formatter, "port {port} cannot be used: {why}. Choose another, or leave out `--port`.")
            }
            Self::CaddyEnded { why, log } => write!(
                formatter,
                "{why}. Its last words:\n\n{log}\n\nIf they do not help, try another Caddy with `--caddy FILE`."
            ),
            Self::Vestibule(error) => write!(formatter, "Vestibule does not start.\n{error}"),
            Self::System(what, why) => write!(formatter, "cannot {what}: {why}"),
        }
    }
}

impl std::error::Error for Trouble {}

fn no_caddy(formatter: &mut fmt::Formatter<'_>, looked: &[PathBuf], why: &str) -> fmt::Result {
    let places: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
    write!(
        formatter,
        "there is no Caddy 2.6 or newer here (neither on the PATH nor as {}), and none could be fetched: {why}.\n\
         Install it in one of these ways, then start the demo again:\n\n  \
         sudo apt-get install -y caddy      on Debian and Ubuntu\n  \
         brew install caddy                 on a Mac\n\n\
         or name one that you have with `--caddy FILE`.",
        places.join(" or ")
    )
}

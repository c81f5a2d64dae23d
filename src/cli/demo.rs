//! `vestibule demo`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{complain, log, say};
use crate::demo::{House, Options};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Port for the browser [default: 8080, or any that is free]
    #[arg(long)]
    port: Option<u16>,
    /// Your own front end instead of the small one, such as http://localhost:5173
    #[arg(long, value_name = "URL")]
    front: Option<String>,
    /// Your own API instead of the small one; it gets what comes to /api/, such as http://127.0.0.1:3000
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// The Caddy to use, 2.6 or newer [default: the one on the PATH, else one is fetched]
    #[arg(long, value_name = "FILE", env = "CADDY_BIN")]
    caddy: Option<PathBuf>,
}

/// Starts the whole house, and runs it until somebody stops it.
pub(super) fn demo(args: DemoArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(args));
    runtime.shutdown_background();
    code
}

async fn run(args: DemoArgs) -> ExitCode {
    let Ok(mut stop) = Stop::new() else {
        complain("error: cannot hear signals");
        return ExitCode::FAILURE;
    };
    // The log begins below the banner, so that the line to open is not lost among others.
    let control = Arc::new(OnceLock::<log::Control>::new());
    let later = Arc::clone(&control);
    let options = Options {
        port: args.port,
        front: args.front,
        api: args.api,
        caddy: args.caddy,
        apply_log: Box::new(move |log| later.get().into_iter().for_each(|control| control.apply(log))),
    };
    say("Starting a provider, an API, Vestibule and Caddy.");
    let started = tokio::select! {
        started = House::start(options, &|text: &str| say(text)) => started,
        () = stop.heard() => {
            say("Stopped before it had begun; nothing is left.");
            return ExitCode::SUCCESS;
        }
    };
    let mut house = match started {
        Ok(house) => house,
        Err(trouble) => {
            complain(&format!("error: {trouble}"));
            return ExitCode::FAILURE;
        }
    };
    say(&house.banner());
    let _ = control.set(log::start());
    let trouble = tokio::select! {
        trouble = house.trouble() => Some(trouble),
        () = stop.heard() => None,
    };
    let words = tokio::select! {
        words = house.stop() => words,
        () = stop.heard() => "Stopped at once.".to_owned(),
    };
    say(&words);
    match trouble {
        Some(trouble) => {
            complain(&format!("error: {trouble}"));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// The ways in which a person ends a program: Ctrl-C, `kill`, closing the terminal.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn heard(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

//! `vestibule run`.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::cli::manager::{self, Manager};
use crate::cli::{complain, log};
use crate::reload::{Managed, Options, Sidecar};
use crate::time::Clock;

/// Serves until SIGTERM or SIGINT; a second signal ends at once.
pub(super) fn run(config_path: &Path) -> ExitCode {
    let control = log::start();
    let (inherited, manager) = (manager::inherited(), Manager::of_environment());
    let watchdog = manager.watchdog();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        config_path: config_path.to_owned(),
        clock: Clock::default(),
        apply_log: Box::new(move |log| control.apply(log)),
        managed: Managed { inherited, watchdog, tell: Box::new(move |phase| manager.tell(phase)) },
    };
    let code = runtime.block_on(serve(options));
    // What still runs had its deadline; blocking threads of the name resolver must not hold the process.
    runtime.shutdown_background();
    code
}

async fn serve(options: Options) -> ExitCode {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        complain("error: cannot hear signals");
        return ExitCode::FAILURE;
    };
    let sidecar = match Sidecar::start(options).await {
        Ok(sidecar) => sidecar,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM"),
        _ = interrupt.recv() => info!("SIGINT"),
    }
    tokio::select! {
        () = sidecar.shutdown() => ExitCode::SUCCESS,
        _ = terminate.recv() => cut_short(),
        _ = interrupt.recv() => cut_short(),
    }
}

fn cut_short() -> ExitCode {
    warn!("second signal: stopping at once");
    ExitCode::FAILURE
}

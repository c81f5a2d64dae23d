//! The log: one event a line on standard error, for people on a terminal and for machines elsewhere. Its level and
//! format follow the configuration, also across reloads.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Log, LogFormat};

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Printer = Box<dyn Layer<Filtered> + Send + Sync>;

/// The handles by which a reload changes the log.
#[derive(Clone)]
pub(super) struct Control {
    filter: Handle<EnvFilter, Registry>,
    printer: Handle<Printer, Filtered>,
}

impl Control {
    /// Applies `[log]`.
    pub(super) fn apply(&self, log: &Log) {
        // Only fails when the subscriber is gone, and then nobody reads the log.
        let _ = self.filter.reload(filter(log));
        let _ = self.printer.reload(printer(log));
    }
}

/// Starts the log with the defaults, which serve until the configuration has been read.
pub(super) fn start() -> Control {
    let defaults = Log { level: "info".to_owned(), format: LogFormat::Auto };
    let (filter_layer, filter) = reload::Layer::new(filter(&defaults));
    let (printer_layer, printer) = reload::Layer::new(printer(&defaults));
    // Fails only when a subscriber was there before, as in tests; then that one stays.
    let _ = tracing_subscriber::registry().with(filter_layer).with(printer_layer).try_init();
    Control { filter, printer }
}

/// What `log.level` says, minus the chatter of the file watcher: we say ourselves what came of a change.
fn filter(log: &Log) -> EnvFilter {
    EnvFilter::try_new(format!("notify=error,{}", log.level)).unwrap_or_else(|_| EnvFilter::new("info,notify=error"))
}

fn printer(log: &Log) -> Printer {
    let terminal = std::io::stderr().is_terminal();
    let human = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let writer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    if human { writer.with_ansi(terminal).compact().boxed() } else { writer.json().flatten_event(true).boxed() }
}

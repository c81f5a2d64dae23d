//! Everything that the process under test logs, at TRACE and as JSON, in one buffer for the whole test binary.

use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// The buffer; every world searches it for its own marker.
static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

/// Panics in `src`, wherever their task ran.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes into [`LOG`].
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        buffer().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

fn buffer() -> MutexGuard<'static, Vec<u8>> {
    LOG.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts to listen, once for the process.
pub fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The tests' own WebSocket client writes down what it sends, cookies and all.
        let all_but_the_tests = "trace,tungstenite=off,tokio_tungstenite=off";
        tracing_subscriber::fmt().json().with_env_filter(all_but_the_tests).with_writer(Sink).init();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A panic of a task is caught and forgotten by the runtime; here it is remembered.
            if info.location().is_some_and(|location| location.file().starts_with("src/")) {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
            }
            before(info);
        }));
    });
}

/// How long the log is now; what a world finds before it is not its own.
pub fn position() -> usize {
    buffer().len()
}

/// What was logged since `position`.
pub fn since(position: usize) -> String {
    String::from_utf8_lossy(buffer().get(position..).unwrap_or_default()).into_owned()
}

/// The last `count` lines that speak for the program itself, for failure messages.
pub fn tail(position: usize, count: usize) -> String {
    let text = since(position);
    let own: Vec<&str> = text.lines().filter(|line| line.contains("\"target\":\"vestibule")).collect();
    own[own.len().saturating_sub(count)..].join("\n")
}

/// Panics of the program so far.
pub fn panics() -> Vec<String> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

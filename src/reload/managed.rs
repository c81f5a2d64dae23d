//! What a service manager has to do with the life of the process: it may hand over sockets, hears of each phase, and
//! may want signs of life.

use std::fmt;
use std::time::Duration;

use crate::server::Inherited;

/// A phase that the service manager hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase<'a> {
    /// It serves; what exactly, in a line.
    Ready(&'a str),
    /// It reads its configuration; [`Ready`](Self::Ready) follows, whatever comes of it.
    Reloading,
    /// It goes down.
    Stopping,
    /// It is not stuck.
    Alive,
}

/// Tells the service manager.
pub type Tell = Box<dyn Fn(&Phase<'_>) + Send + Sync>;

/// The service manager; by default there is none.
pub struct Managed {
    /// Sockets that it has opened.
    pub inherited: Inherited,
    /// Tells it of each phase.
    pub tell: Tell,
    /// How long it waits for a sign of life.
    pub watchdog: Option<Duration>,
}

impl Default for Managed {
    fn default() -> Self {
        Self { inherited: Inherited::default(), tell: Box::new(|_| {}), watchdog: None }
    }
}

impl fmt::Debug for Managed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Managed").field("inherited", &self.inherited).finish_non_exhaustive()
    }
}

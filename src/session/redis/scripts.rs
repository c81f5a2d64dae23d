//! The scripts that run in the server, one for each change: nobody sees half of one.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Script};

use crate::time::Timestamp;

/// A script by its name.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Insert,
    Replace,
    End,
    Sweep,
    Find,
    Put,
    Begin,
    Hold,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("take.lua"), include_str!($file)))
    };
}

/// All of them, in the order of their names.
static SCRIPTS: LazyLock<[Script; 8]> = LazyLock::new(|| {
    [
        script!("insert.lua"),
        script!("replace.lua"),
        script!("end.lua"),
        script!("sweep.lua"),
        script!("find.lua"),
        script!("put.lua"),
        script!("begin.lua"),
        script!("hold.lua"),
    ]
});

/// Makes them known to the server, so that they can be called by their hash.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    for script in SCRIPTS.iter() {
        script.load_async(connection).await?;
    }
    Ok(())
}

/// A call of a script; its arguments follow.
pub(super) fn call(name: Name, prefix: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    // An enum of eight finds its place among eight.
    let hash = SCRIPTS.get(name as usize).map(Script::get_hash).unwrap_or_default();
    command.arg(hash).arg(0).arg(prefix);
    command
}

/// A session as the scripts get it.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) sealed: Vec<u8>,
    pub(super) ends_at: Timestamp,
    pub(super) subject: String,
    pub(super) sid: String,
}

impl Row {
    /// Adds it to a call.
    pub(super) fn write(&self, command: &mut Cmd) {
        command.arg(&self.id).arg(self.version).arg(&self.sealed).arg(self.ends_at.unix());
    }

    /// Adds it to a call with what a new session has beside: a last use, and what it is found by.
    pub(super) fn write_new(&self, command: &mut Cmd, used_at: Timestamp) {
        self.write(command);
        command.arg(used_at.unix()).arg(&self.subject).arg(&self.sid);
    }
}

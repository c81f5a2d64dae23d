//! Instructions in user space for one request, counted by callgrind: what a noisy machine cannot hide. The kernel's
//! share is left out; it is the same number of system calls for both.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How a process is started so that its instructions are counted: program and first arguments.
pub(crate) const COUNTED: [&str; 2] = ["valgrind", "--tool=callgrind"];

/// The file that the next `dump` of a process in `directory` writes.
pub(crate) fn out_file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("callgrind.{name}"))
}

/// Forgets what was counted so far.
pub(crate) fn zero(pid: u32) {
    control("--zero", pid);
}

/// What was counted since, in instructions.
pub(crate) fn dump(pid: u32, out_file: &Path) -> f64 {
    control("--dump", pid);
    // The first dump has the suffix 1.
    let text = std::fs::read_to_string(format!("{}.1", out_file.display())).unwrap();
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    totals.trim().parse().unwrap()
}

fn control(what: &str, pid: u32) {
    let status = Command::new("callgrind_control").args([what, &pid.to_string()]).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

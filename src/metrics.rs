//! Every number we export, declared once. Labels come from closed sets only, never from a request.

/// All metric families; lives as long as the process, across reloads.
#[derive(Debug)]
pub struct Metrics {}

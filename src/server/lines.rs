//! Line ends of a head: CR LF, and nothing else.
//!
//! hyper takes a bare LF for a line end, as RFC 9112 2.2 allows. A proxy in front that takes it for a part of a value
//! would pass on, as one harmless header, what we would read as two. (A head that a client sends before it has the
//! answer to the one before is not looked at: proxies do not pipeline, and nobody else stands behind such a client.)

use memchr::memchr_iter;

/// Follows one head as its bytes come in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Length of the line that is not finished yet.
    open: usize,
    /// The byte before those that come next.
    last: u8,
    /// A line that is not empty was seen; empty ones before it are ignored (RFC 9112 2.2).
    begun: bool,
    /// The empty line was seen: what follows is no head.
    ended: bool,
}

impl Lines {
    /// Looks at what came in. A bare LF is turned into NUL, which no head may contain, so that hyper answers 400 and
    /// closes the connection.
    pub(super) fn judge(&mut self, bytes: &mut [u8]) {
        if let Some(at) = self.find(bytes)
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte = 0;
        }
    }

    /// Where the first bare LF of the head is.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        for at in memchr_iter(b'\n', bytes) {
            if self.ended {
                return None;
            }
            let before = at.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(self.last);
            if before != b'\r' {
                self.ended = true;
                return Some(at);
            }
            let empty = self.open + at - from == 1;
            self.ended = empty && self.begun;
            self.begun |= !empty;
            self.open = 0;
            from = at + 1;
        }
        self.open += bytes.len() - from;
        self.last = bytes.last().copied().unwrap_or(self.last);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges `bytes` cut into pieces of `size`; what hyper would see.
    fn judged(bytes: &str, size: usize) -> String {
        let mut lines = Lines::default();
        let mut bytes = bytes.as_bytes().to_vec();
        bytes.chunks_mut(size).for_each(|piece| lines.judge(piece));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn f09_finds_a_bare_line_feed_wherever_the_reads_are_cut() {
        for size in 1..40 {
            for (bytes, seen) in [
                ("GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\0Host: a\r\n\r\n"),
                ("GET / HTTP/1.1\r\nHost: a\nX: b\n\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\0X: b\n\r\n\r\n"),
                ("GET / HTTP/1.1\r\nHost: a\r\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\0"),
                ("\nGET / HTTP/1.1\r\n\r\n", "\0GET / HTTP/1.1\r\n\r\n"),
            ] {
                assert_eq!(judged(bytes, size), seen, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn leaves_a_clean_head_and_everything_behind_it_alone() {
        for size in 1..40 {
            for bytes in [
                "POST / HTTP/1.1\r\nHost: a\r\n\r\nbody\nwith\n\nlines\r\n\r\n\n",
                "\r\n\r\nGET / HTTP/1.1\r\nX: \r\n\r\n\n",
            ] {
                assert_eq!(judged(bytes, size), bytes, "in pieces of {size}");
            }
        }
    }
}

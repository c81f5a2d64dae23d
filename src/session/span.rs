//! A stretch of session ids in their order, and the first ids of it out of all that a store shows in none.

use crate::session::SessionId;

/// All ids from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: SessionId,
    pub(super) last: SessionId,
}

impl Span {
    /// Every id.
    pub(super) const ALL: Self = Self { first: SessionId([0; 32]), last: SessionId([0xff; 32]) };

    /// Those that begin with these digits in hex; `None`: no id does.
    pub(super) fn beginning(digits: &str) -> Option<Self> {
        let (first, last) = (format!("{digits:0<64}"), format!("{digits:f<64}"));
        Some(Self { first: SessionId::from_hex(&first)?, last: SessionId::from_hex(&last)? })
    }

    /// Those of them that come behind `id`; `None`: there are none.
    pub(super) fn behind(self, id: SessionId) -> Option<Self> {
        let first = self.first.max(next(id)?);
        (first <= self.last).then_some(Self { first, ..self })
    }

    fn contains(self, id: SessionId) -> bool {
        self.first <= id && id <= self.last
    }
}

/// The id right behind `id`.
fn next(SessionId(mut bytes): SessionId) -> Option<SessionId> {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(SessionId(bytes));
        }
    }
    None
}

/// The first ids of a span, out of those that are shown. Never holds more than twice as many.
pub(super) struct First {
    /// What is left of the span: behind its end are `most` already.
    span: Span,
    most: usize,
    ids: Vec<SessionId>,
}

impl First {
    pub(super) const fn of(span: Span, most: usize) -> Self {
        Self { span, most, ids: Vec::new() }
    }

    /// Shows an id, once or more often.
    pub(super) fn show(&mut self, id: SessionId) {
        if self.span.contains(id) {
            self.ids.push(id);
            if self.ids.len() >= self.most.saturating_mul(2) {
                self.tidy();
            }
        }
    }

    /// They, in their order.
    pub(super) fn ids(mut self) -> Vec<SessionId> {
        self.tidy();
        self.ids
    }

    fn tidy(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        if self.ids.len() >= self.most {
            self.ids.truncate(self.most);
            self.span.last = self.ids.last().copied().unwrap_or(self.span.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> SessionId {
        let mut bytes = [0x55; 32];
        bytes[0] = byte;
        SessionId(bytes)
    }

    #[test]
    fn a_span_is_those_that_begin_alike_and_what_is_behind_one_of_them() {
        let span = Span::beginning("aB3").unwrap();
        assert!(span.first.hex().starts_with("ab3000") && span.last.hex().starts_with("ab3fff"));
        assert_eq!(Span::beginning(""), Some(Span::ALL));
        assert_eq!(Span::beginning(&"0".repeat(65)), None);
        assert_eq!(Span::beginning("xyz"), None);
        assert_eq!(span.behind(id(0x10)), Some(span));
        assert_eq!((span.behind(span.last), span.behind(id(0xff))), (None, None));
        let rest = span.behind(span.first).unwrap();
        assert!(!rest.contains(span.first) && rest.contains(span.last));
        assert_eq!(Span::ALL.behind(Span::ALL.last), None);
        let one = Span::beginning(&"7f".repeat(32)).unwrap();
        assert!(one.first == one.last && one.behind(one.first).is_none());
        let carried = Span::ALL.behind(SessionId([[1; 31].as_slice(), &[0xff]].concat().try_into().unwrap()));
        assert_eq!(carried.unwrap().first.as_bytes()[29..], [1, 2, 0]);
    }

    #[test]
    fn the_first_are_the_same_in_whatever_order_they_are_shown() {
        let span = Span { first: id(3), last: id(250) };
        for most in [1, 2, 7, 247, 248, 300, usize::MAX] {
            let mut first = First::of(span, most);
            // 89 has no part in common with 256: every byte comes, and comes twice.
            for step in 0..512_usize {
                first.show(id(u8::try_from(step * 89 % 256).unwrap()));
                assert!(first.ids.len() <= most.saturating_mul(2));
            }
            let expected: Vec<SessionId> = (3..=250).map(id).take(most).collect();
            assert_eq!(first.ids(), expected, "{most}");
        }
    }
}

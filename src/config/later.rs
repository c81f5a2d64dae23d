//! What the schema already knows and this version does not do yet. A config that uses it is refused: nothing that an
//! operator writes is silently ignored. A feature that arrives takes its lines out of here.

/// Keys, by the place in the schema; `*` stands for a name that the operator chose.
const KEYS: &[&str] = &["sessions.store.redis"];

/// Whether the key at `place` is for a later version.
pub(super) fn key(place: &str) -> bool {
    KEYS.contains(&place)
}

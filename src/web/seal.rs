//! Sealing: AES-256-GCM-SIV under a key ring, for whatever we give away and want back unread and unchanged.
//!
//! The first key of the ring seals, all open. A key is derived for each purpose, and purpose and context are the
//! additional data, so that a value sealed for one use opens for no other. GCM-SIV because replicas share static keys:
//! a nonce drawn twice by chance then gives nothing away but equality (RFC 8452).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::Secret;
use crate::web::RandomError;

/// First byte of every sealed value; a new format takes a new number.
const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 12;

/// What a sealed value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The cookie of one login attempt, and how it landed.
    Login,
    /// A session at rest.
    Session,
    /// The one-use logout URL.
    Logout,
    /// What a login is asked to bring, and what it has brought.
    StepUp,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Login => b"vestibule login 1",
            Self::Session => b"vestibule session 1",
            Self::Logout => b"vestibule logout 1",
            Self::StepUp => b"vestibule step-up 1",
        }
    }
}

/// The value was not sealed by a key of this ring for this purpose and context, or was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed by a known key for this use")]
pub struct OpenError;

/// Keys, newest first.
pub struct KeyRing(Vec<Arc<Key>>);

struct Key {
    id: [u8; KEY_ID_LEN],
    login: RandomizedNonceKey,
    session: RandomizedNonceKey,
    logout: RandomizedNonceKey,
    step_up: RandomizedNonceKey,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyRing({} keys)", self.0.len())
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn derive(material: &[u8]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"vestibule key ring 1").extract(material);
        let expand =
            |info: &[u8], out: &mut [u8]| root.expand(&[info], Len(out.len())).and_then(|okm| okm.fill(out)).ok();
        let mut id = [0; KEY_ID_LEN];
        expand(b"key id", &mut id)?;
        let key = |purpose: Purpose| {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            expand(purpose.label(), bytes.as_mut_slice())?;
            RandomizedNonceKey::new(&AES_256_GCM_SIV, bytes.as_slice()).ok()
        };
        Some(Self {
            id,
            login: key(Purpose::Login)?,
            session: key(Purpose::Session)?,
            logout: key(Purpose::Logout)?,
            step_up: key(Purpose::StepUp)?,
        })
    }

    const fn of(&self, purpose: Purpose) -> &RandomizedNonceKey {
        match purpose {
            Purpose::Login => &self.login,
            Purpose::Session => &self.session,
            Purpose::Logout => &self.logout,
            Purpose::StepUp => &self.step_up,
        }
    }
}

impl KeyRing {
    /// A ring of `secrets`, newest first; an empty list makes one random key that dies with the process.
    ///
    /// # Errors
    /// [`RandomError`] when a random key is needed and there are no random bytes.
    pub fn new(secrets: &[Secret]) -> Result<Self, RandomError> {
        if secrets.is_empty() {
            let random = zeroize::Zeroizing::new(crate::web::bytes::<32>()?);
            return Ok(Self(Key::derive(random.as_slice()).map(Arc::new).into_iter().collect()));
        }
        let keys = secrets.iter().filter_map(|secret| Key::derive(secret.expose().as_bytes()));
        Ok(Self(keys.map(Arc::new).collect()))
    }

    /// This ring, which opens also what `other` opens.
    #[must_use]
    pub fn opening(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().map(Arc::clone));
        self
    }

    /// Whether this ring opens whatever `other` opens.
    #[must_use]
    pub fn opens_all_of(&self, other: &Self) -> bool {
        other.0.iter().all(|key| self.0.iter().any(|known| known.id == key.id))
    }

    /// Seals `plain` for `purpose`, bound to `context` (a cookie name, a route), as URL-safe text.
    ///
    /// # Errors
    /// [`RandomError`] when there are no random bytes for the nonce.
    pub fn seal(&self, purpose: Purpose, context: &str, plain: &[u8]) -> Result<String, RandomError> {
        Ok(URL_SAFE_NO_PAD.encode(self.seal_bytes(purpose, context.as_bytes(), plain)?))
    }

    /// Opens what [`seal`](Self::seal) made for the same purpose and context, by any key of the ring.
    ///
    /// # Errors
    /// [`OpenError`] for everything else, without telling what was wrong.
    pub fn open(&self, purpose: Purpose, context: &str, text: &[u8]) -> Result<Vec<u8>, OpenError> {
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenError)?;
        self.open_bytes(purpose, context.as_bytes(), &sealed)
    }

    /// Like [`seal`](Self::seal), for places that hold any byte: 33 bytes more than `plain`.
    ///
    /// # Errors
    /// [`RandomError`] when there are no random bytes for the nonce.
    pub fn seal_bytes(&self, purpose: Purpose, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, RandomError> {
        let key = self.0.first().ok_or(RandomError)?;
        let aad = Aad::from(aad(purpose, context, key.id));
        let mut sealed = plain.to_vec();
        let nonce = key.of(purpose).seal_in_place_append_tag(aad, &mut sealed).map_err(|_| RandomError)?;
        let mut out = Vec::with_capacity(1 + KEY_ID_LEN + NONCE_LEN + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&key.id);
        out.extend_from_slice(nonce.as_ref());
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`seal_bytes`](Self::seal_bytes) made for the same purpose and context, by any key of the ring.
    ///
    /// # Errors
    /// [`OpenError`] for everything else, without telling what was wrong.
    pub fn open_bytes(&self, purpose: Purpose, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (&version, rest) = sealed.split_first().ok_or(OpenError)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(OpenError)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError)?;
        if version != VERSION {
            return Err(OpenError);
        }
        let key = self.0.iter().find(|key| key.id == *id).ok_or(OpenError)?;
        let mut bytes = sealed.to_vec();
        let aad = Aad::from(aad(purpose, context, *id));
        let plain = key.of(purpose).open_in_place(Nonce::from(nonce), aad, &mut bytes).map_err(|_| OpenError)?.len();
        bytes.truncate(plain);
        Ok(bytes)
    }
}

fn aad(purpose: Purpose, context: &[u8], id: [u8; KEY_ID_LEN]) -> Vec<u8> {
    // Purpose labels have a fixed set and the id a fixed length, so that no two triples run together.
    [purpose.label(), &id, context].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(secrets: &[&str]) -> KeyRing {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        KeyRing::new(&secrets).unwrap()
    }

    #[test]
    fn sc_12_opens_only_for_its_purpose_context_and_unchanged() {
        let ring = ring(&["an old secret of more than 32 bytes ....."]);
        let sealed = ring.seal(Purpose::Login, "cookie-a", b"plain").unwrap();
        assert_eq!(ring.open(Purpose::Login, "cookie-a", sealed.as_bytes()).unwrap(), b"plain");
        assert_eq!(ring.open(Purpose::Login, "cookie-b", sealed.as_bytes()), Err(OpenError));
        assert_eq!(ring.open(Purpose::Session, "cookie-a", sealed.as_bytes()), Err(OpenError));
        let raw = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for bit in 0..raw.len() * 8 {
            let mut changed = raw.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(ring.open(Purpose::Login, "cookie-a", changed.as_bytes()), Err(OpenError), "bit {bit}");
        }
    }

    #[test]
    fn sc_12_first_key_seals_and_all_open() {
        let old = ring(&["old old old old old old old old old old"]);
        let both = ring(&["new new new new new new new new new new", "old old old old old old old old old old"]);
        let by_old = old.seal(Purpose::Login, "c", b"x").unwrap();
        assert_eq!(both.open(Purpose::Login, "c", by_old.as_bytes()).unwrap(), b"x");
        let by_new = both.seal(Purpose::Login, "c", b"x").unwrap();
        assert_eq!(old.open(Purpose::Login, "c", by_new.as_bytes()), Err(OpenError));
    }

    #[test]
    fn a_ring_that_opens_for_another_seals_with_its_own_key() {
        let (own, other) = (ring(&["own own own own own own own own own own"]), ring(&[]));
        let by_other = other.seal(Purpose::Login, "c", b"x").unwrap();
        assert_eq!(own.open(Purpose::Login, "c", by_other.as_bytes()), Err(OpenError));
        let both = own.opening(&other);
        assert_eq!(both.open(Purpose::Login, "c", by_other.as_bytes()).unwrap(), b"x");
        let by_both = both.seal(Purpose::Login, "c", b"x").unwrap();
        assert_eq!(other.open(Purpose::Login, "c", by_both.as_bytes()), Err(OpenError));
    }

    #[test]
    fn bytes_and_text_are_one_format() {
        let ring = ring(&["an old secret of more than 32 bytes ....."]);
        let sealed = ring.seal_bytes(Purpose::Session, &[0xff; 32], b"plain").unwrap();
        assert_eq!(sealed.len(), b"plain".len() + 33);
        assert_eq!(ring.open_bytes(Purpose::Session, &[0xff; 32], &sealed).unwrap(), b"plain");
        assert_eq!(ring.open_bytes(Purpose::Session, &[0xfe; 32], &sealed), Err(OpenError));
        let text = ring.seal(Purpose::Session, "c", b"plain").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        assert_eq!(ring.open_bytes(Purpose::Session, b"c", &bytes).unwrap(), b"plain");
    }

    #[test]
    fn sc_7_garbage_is_refused() {
        let ring = ring(&[]);
        for text in [&b""[..], b"AQ", b"!!!!", b"\xff\xfe", &[b'A'; 70_000]] {
            assert_eq!(ring.open(Purpose::Login, "c", text), Err(OpenError));
        }
    }
}

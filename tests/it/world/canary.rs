//! The oracle of leaks (G3): after each story every secret is searched for, in every form, wherever it must not be.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::{LOCATION, SET_COOKIE};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use vestibule::demo::provider::Secret;

use super::answer::Answer;

/// Everything that the sidecar sent to browsers of one world.
#[derive(Clone, Debug, Default)]
pub struct Transcript(Arc<Mutex<Vec<String>>>);

impl Transcript {
    /// Adds an answer, without what may be told: our own cookies are the browser's to keep.
    pub fn add(&self, answer: &Answer) {
        let mut text = format!("{} for {}\n", answer.status, answer.url.path());
        for (name, value) in &answer.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            match name {
                name if name == SET_COOKIE => {}
                name if name == LOCATION => text.push_str(&format!("redirect: {value}\n")),
                name => text.push_str(&format!("{name}: {value}\n")),
            }
        }
        text.push_str(&String::from_utf8_lossy(&answer.body));
        self.0.lock().unwrap().push(text);
    }

    /// All answers, each as one text.
    pub fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A secret, and where it may be seen.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What it is, for the failure message.
    pub name: String,
    /// What must not be found.
    pub value: String,
    /// The beginnings of URLs in which browsers may see it.
    pub homes: Vec<String>,
    /// Whether upstreams may be told.
    pub for_upstreams: bool,
}

impl Watched {
    /// What must be seen nowhere.
    pub fn nowhere(name: &str, value: String) -> Self {
        Self { name: name.to_owned(), value, homes: Vec::new(), for_upstreams: false }
    }

    /// A secret of the provider's. A state and a nonce are at home in the authorization URL, an ID token (with the nonce
    /// in it) in the end-session URL (`id_token_hint`), an access token at upstreams, and that is all.
    pub fn new((kind, value): &(Secret, String), authorize: &str, end_session: &str) -> Self {
        let homes = match kind {
            Secret::State => vec![authorize.to_owned()],
            Secret::Nonce => vec![authorize.to_owned(), end_session.to_owned()],
            Secret::IdToken => vec![end_session.to_owned()],
            Secret::Code
            | Secret::AccessToken
            | Secret::RefreshToken
            | Secret::ClientSecret
            | Secret::CodeVerifier
            | Secret::DeviceCode => Vec::new(),
        };
        let for_upstreams = *kind == Secret::AccessToken;
        Self { homes, for_upstreams, ..Self::nowhere(&format!("{kind:?}"), value.clone()) }
    }
}

/// Who reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Whoever has the answer in hand.
    Browser,
    /// Whoever has the log or the metrics; no secret is at home there.
    Operator,
    /// Whom a request is handed on to.
    Upstream,
}

/// All ways to write all secrets, ready to be found in one pass over a text.
pub struct Search {
    secrets: Vec<Watched>,
    patterns: Vec<Pattern>,
    /// Patterns by their last bytes: many secrets begin the same, such as JWTs with their header, but none end the same.
    ends: HashMap<[u8; END], Vec<usize>>,
    /// Whether any pattern may end so: most places of a text are done with after this look.
    sieve: Vec<bool>,
}

/// How many last bytes patterns are found by; none is shorter.
const END: usize = 8;
/// The sieve has two to the power of this many holes, several for each pattern of the largest stories.
const SIEVE_BITS: u32 = 22;

/// One way to write one secret.
struct Pattern {
    secret: usize,
    form: &'static str,
    bytes: Vec<u8>,
}

impl Search {
    /// Prepares a search for `secrets`.
    pub fn new(secrets: Vec<Watched>) -> Self {
        let mut patterns = Vec::new();
        // What is shorter is no secret, but a test's way to ask with an odd value.
        for (secret, watched) in secrets.iter().enumerate().filter(|(_, watched)| watched.value.len() >= END) {
            for (form, text) in forms(&watched.value) {
                patterns.push(Pattern { secret, form, bytes: text.into_bytes() });
            }
        }
        let (mut ends, mut sieve) = (HashMap::<_, Vec<usize>>::new(), vec![false; 1 << SIEVE_BITS]);
        for (number, pattern) in patterns.iter().enumerate() {
            let end = *pattern.bytes.last_chunk().unwrap();
            ends.entry(end).or_default().push(number);
            sieve[hole(end)] = true;
        }
        Self { secrets, patterns, ends, sieve }
    }

    /// What `reader` finds in `text` and must not, with its surroundings; the first find of each secret.
    pub fn leaks(&self, text: &str, reader: Reader) -> Vec<String> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for (before, end) in bytes.windows(END).enumerate() {
            let end = *end.first_chunk().unwrap();
            if !self.sieve[hole(end)] {
                continue;
            }
            for number in self.ends.get(&end).into_iter().flatten() {
                let pattern = &self.patterns[*number];
                let secret = &self.secrets[pattern.secret];
                if !bytes[..before + END].ends_with(&pattern.bytes) || known.contains(&pattern.secret) {
                    continue;
                }
                let at = before + END - pattern.bytes.len();
                let allowed = match reader {
                    Reader::Browser => secret.homes.iter().any(|home| is_within_url(text, at, home)),
                    Reader::Operator => false,
                    Reader::Upstream => secret.for_upstreams,
                };
                if !allowed {
                    known.insert(pattern.secret);
                    let around = String::from_utf8_lossy(&bytes[at.saturating_sub(160)..bytes.len().min(at + 40)]);
                    found.push(format!("{} ({}): …{}…", secret.name, pattern.form, around));
                }
            }
        }
        found
    }
}

/// Where in the sieve `end` falls.
fn hole(end: [u8; END]) -> usize {
    (u64::from_le_bytes(end).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SIEVE_BITS)) as usize
}

/// Whether the text at `at` belongs to an URL that begins with `home`: no space, quote or line end between.
fn is_within_url(text: &str, at: usize, home: &str) -> bool {
    let start = text[..at].rfind(['"', '\'', ' ', '\n', '<', '>']).map_or(0, |found| found + 1);
    let url = percent_decode(&text.as_bytes()[start..at]).decode_utf8_lossy().replace("\\/", "/");
    url.starts_with(home)
}

/// The ways in which a secret could be written.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![("as it is", secret.to_owned())];
    let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    if percent != secret {
        forms.push(("percent-encoded", percent_lower(secret)));
        forms.push(("percent-encoded", percent));
    }
    let hex: String = secret.bytes().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect();
    forms.push(("hex", hex.to_ascii_uppercase()));
    forms.push(("hex", hex));
    for (skip, from) in [(0, 0), (1, 2), (2, 3)] {
        // Base64 has three alignments; the outer characters depend on the neighbours and are left off.
        let text = STANDARD_NO_PAD.encode([vec![0; skip], secret.as_bytes().to_vec()].concat());
        let core = text[from..text.len() - usize::from(text.len() % 4 != 0)].to_owned();
        forms.push(("base64url", core.replace('+', "-").replace('/', "_")));
        forms.push(("base64", core));
    }
    forms
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap()
}

/// Percent-encoded with lower-case digits.
fn percent_lower(text: &str) -> String {
    let mut encoded = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
    encoded
}

/// What to search for: the marker finds all secrets of a world, cut ones too; the others have no marker.
/// Its home is that of the one marked secret which has one; in what upstreams see, it would find the access token.
pub fn marker(canary: &str, end_session: &str) -> Watched {
    let homes = vec![end_session.to_owned()];
    Watched { homes, for_upstreams: true, ..Watched::nowhere("a marked secret", format!("canary-{canary}-")) }
}

/// Parts of a secret that are long enough to know it by: a JWT is recognised by its payload and by its signature.
pub fn parts(secret: &Watched) -> Vec<Watched> {
    let pieces: BTreeSet<&str> = secret.value.split('.').skip(1).filter(|piece| piece.len() >= 20).collect();
    let part = |value: &&str| Watched { value: (*value).to_owned(), ..secret.clone() };
    std::iter::once(secret.clone()).chain(pieces.iter().map(part)).collect()
}

#[test]
fn the_oracle_finds_a_secret_in_every_form() {
    let secret = "canary-w-refresh-1-abcdefghijkl";
    let search = Search::new(vec![Watched::nowhere("it", secret.to_owned())]);
    let hidden = |text: &str| search.leaks(text, Reader::Browser).is_empty();
    assert!(hidden("nothing of the kind"));
    assert!(!hidden(&format!("token={secret}&x=1")));
    assert!(!hidden(&utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()));
    for before in ["", "a", "ab", "abc"] {
        assert!(!hidden(&STANDARD_NO_PAD.encode(format!("{before}{secret}/"))), "base64 behind {before:?}");
    }
    assert!(!hidden(&secret.bytes().map(|byte| format!("{byte:02X}")).collect::<String>()));
}

#[test]
fn the_oracle_lets_a_secret_be_at_home_and_nowhere_else() {
    let homes = vec!["http://id.test/authorize?".to_owned()];
    let search = Search::new(vec![Watched { homes, ..Watched::nowhere("state", "state-0123456789".to_owned()) }]);
    let leaks = |text: &str| search.leaks(text, Reader::Browser);
    assert!(leaks("redirect: http://id.test/authorize?state=state-0123456789\n").is_empty());
    assert!(leaks("{\"url\":\"http://id.test/authorize?a=b&state=state-0123456789\"}").is_empty());
    assert!(!leaks("redirect: http://evil.test/authorize?state=state-0123456789\n").is_empty());
    assert!(!leaks("http://id.test/authorize?a \"state-0123456789\"").is_empty());
    assert!(!search.leaks("http://id.test/authorize?state=state-0123456789", Reader::Operator).is_empty());
}

#[test]
fn the_oracle_lets_upstreams_be_told_access_tokens_and_nothing_else() {
    let issued = [(Secret::AccessToken, "access-0123456789".to_owned()), (Secret::IdToken, "id-0123456789".to_owned())];
    let search = Search::new(issued.iter().map(|secret| Watched::new(secret, "", "")).collect());
    let leaks = |reader| search.leaks("access-0123456789 id-0123456789", reader).len();
    assert_eq!((leaks(Reader::Upstream), leaks(Reader::Operator)), (1, 2));
}

//! `[providers.NAME]`, the issuer's side.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Name;
use super::origin::{absolute, plain, site};
use super::report::{Wrong, quote};
use super::secret::unreadable;
use super::section::{Context, Section};

/// `[providers.NAME]`, the issuer's side: who it is and how to reach it. What we are there is a
/// [`Client`](crate::config::Client).
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Provider {
    /// The name in metrics and logs.
    pub name: Name,
    /// The issuer identifier, compared byte for byte with what the provider says (OpenID Connect Discovery 4.3).
    pub issuer: String,
    /// Base URL for our own calls to the provider, replacing the issuer's prefix. `http` is allowed here.
    pub backchannel: Option<String>,
    /// Where the keys are, of a provider without metadata: its tokens can be verified, and that is all.
    pub jwks_uri: Option<String>,
    /// Whether opaque tokens are looked up at its introspection endpoint (RFC 7662).
    pub introspection: bool,
    /// Tolerance when judging `exp`, `nbf` and `iat`. Default 60 s.
    pub clock_skew: Duration,
    /// PEM of additional trust anchors, as read from `ca_file`; system roots apply when absent.
    pub ca: Option<Arc<[u8]>>,
    /// Signature algorithms accepted; metadata only narrows it. Asymmetric ones only.
    pub signing_algs: Vec<SigningAlg>,
    /// How long the last good JWKS may serve while the provider is unreachable. Default 24 h.
    pub max_stale: Duration,
    /// Whether `/readyz` waits for this provider. Default false.
    pub required_for_ready: bool,
}

/// An asymmetric JWS algorithm (RFC 7518, RFC 8037). There is no symmetric one and no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningAlg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// With more tolerance than this an expired token is as good as a valid one.
const MOST_CLOCK_SKEW: Duration = Duration::from_secs(600);

impl Provider {
    pub(super) fn resolve(name: Name, section: &Section<'_>) -> Option<Self> {
        let issuer = section.parse("issuer", |text| site(text).and_then(plain).map(|_| text.to_owned()));
        let backchannel = section.optional("backchannel", |section, name| {
            section.parse(name, |text| absolute(text).and_then(plain).map(|_| text.to_owned()))
        });
        if backchannel.iter().flatten().any(|url| url.starts_with("http:")) {
            let wrong = Wrong::new("tokens and the client's secret travel to the provider without TLS");
            section.cx.weaker(&section.at("backchannel"), wrong);
        }
        let jwks_uri = section
            .optional("jwks_uri", |section, name| section.parse(name, |text| site(text).map(|_| text.to_owned())));
        let introspection = section.bool("introspection");
        keys_alone(section, introspection);
        let clock_skew = clock_skew(section);
        let ca = section.certificates("ca_file");
        let signing_algs = section.nonempty("signing_algs", SigningAlg::parse);
        let max_stale = section.duration_or_zero("max_stale");
        let required_for_ready = section.bool("required_for_ready");
        Some(Self {
            name,
            issuer: issuer?,
            backchannel: backchannel?,
            jwks_uri: jwks_uri?,
            introspection: introspection?,
            clock_skew: clock_skew?,
            ca: ca?,
            signing_algs: signing_algs?,
            max_stale: max_stale?,
            required_for_ready: required_for_ready?,
        })
    }
}

/// What needs metadata, beside a `jwks_uri`, which says that there are none.
fn keys_alone(section: &Section<'_>, introspection: Option<bool>) {
    if !section.has("jwks_uri") {
        return;
    }
    if section.has("backchannel") {
        let wrong = Wrong::new("a provider with `jwks_uri` is called there and nowhere else");
        section
            .cx
            .error(&section.at("backchannel"), wrong.hint("drop this line, and name the internal address there"));
    }
    if introspection == Some(true) {
        let wrong =
            Wrong::new("where a provider introspects stands in its metadata, and with `jwks_uri` they are not read");
        section.cx.error(&section.at("introspection"), wrong.hint("drop one of the two"));
    }
}

fn clock_skew(section: &Section<'_>) -> Option<Duration> {
    let skew = section.duration_or_zero("clock_skew")?;
    let at = section.at("clock_skew");
    if skew > MOST_CLOCK_SKEW {
        let wrong = Wrong::new("more than ten minutes of clock skew would accept expired tokens");
        section.cx.error(&at, wrong.hint("set the clocks right: both machines need NTP"));
        return None;
    }
    if skew > Duration::from_secs(60) {
        section.cx.weaker(&at, Wrong::new("expired tokens are accepted for more than a minute"));
    }
    Some(skew)
}

impl SigningAlg {
    const ALL: &[(&str, Self)] = &[
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, alg)| *alg);
        known.ok_or_else(|| match text {
            "none" => Wrong::new("`none` is no signature: anybody could write such a token"),
            text if text.starts_with("HS") => Wrong::new(format!("{} is never accepted", quote(text)))
                .hint("its key is the client secret, which every holder could sign with; set the client at the provider to RS256 or ES256"),
            text => {
                let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
                Wrong::new(format!("{} is no signature algorithm known here", quote(text)))
                    .hint(format!("there are {}", names.join(", ")))
            }
        })
    }

    /// The name in JOSE headers and metadata (RFC 7518 3.1, RFC 8037 3.1).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, alg)| *alg == self).map_or("", |(name, _)| name)
    }
}

impl Section<'_> {
    /// A file of PEM certificates, as it is; `Some(None)` when it is absent.
    pub(super) fn certificates(&self, name: &str) -> Option<Option<Arc<[u8]>>> {
        self.optional(name, |section, name| section.parse(name, |path| certificates(section.cx, Path::new(path))))
    }
}

fn certificates(cx: &Context<'_>, path: &Path) -> Result<Arc<[u8]>, Wrong> {
    let file = cx.read(path).map_err(|why| unreadable(path, &why))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&file.bytes) {
        certificate.map_err(|_| Wrong::new(format!("`{}` has a broken PEM block", path.display())))?;
        count += 1;
    }
    if count == 0 {
        return Err(Wrong::new(format!("`{}` has no certificate", path.display()))
            .hint("it must be PEM: `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(file.bytes.as_slice().into())
}

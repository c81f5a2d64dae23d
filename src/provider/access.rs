//! Access tokens that clients bring themselves: whose they are, and whether they are meant for us (RFC 9068 4, RFC 8725).
//!
//! The issuer is chosen by what the token says of itself, which decides nothing but whose keys are tried. Everything
//! else is judged after the signature, so what goes into a log was written by an issuer and not by a stranger.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::claims::{self, Broken, Rule, Rules};
use super::error::escaped;
use super::jwt::{Invalid, Unverified, Verified};
use super::running::Unverifiable;
use super::{Client, Error, Provider};
use crate::config::{self, TokenProfile};
use crate::time::Timestamp;

/// Longest access token in bytes: what common servers take as one header (JV-17).
const MAX_LEN: usize = 8 * 1024;

/// How long a verdict about a token holds, even when the token lives longer (JV-19).
const REMEMBERED: Duration = Duration::from_secs(60);

/// The issuers of one route, running, and what their tokens are held against.
#[derive(Debug)]
pub struct Verifier {
    config: config::Bearer,
    /// In the order of the config.
    issuers: Vec<Issuer>,
}

/// An issuer, running.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Whose keys sign.
    pub provider: Arc<Provider>,
    /// Who asks about opaque tokens.
    pub introspector: Option<Client>,
}

/// Claims of an access token that was verified and judged; nothing else makes one.
pub struct AccessClaims {
    claims: Map<String, Value>,
    /// Until when this may be remembered.
    until: Timestamp,
    /// Whose keys verified it, and which ones; `None`: the issuer itself vouched for it.
    keys: Option<(Arc<Provider>, u64)>,
    /// How far the issuer's clock may be off.
    skew: Duration,
}

impl AccessClaims {
    /// How far the clock of the issuer may be off from ours.
    #[must_use]
    pub const fn clock_skew(&self) -> Duration {
        self.skew
    }

    /// All claims.
    #[must_use]
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The same without any claim that is not called by one of `names`: what is kept for long should be small.
    #[must_use]
    pub fn narrowed(mut self, names: &[String]) -> Self {
        self.claims = names.iter().filter_map(|name| self.claims.remove_entry(name)).collect();
        self
    }

    /// Whether the verdict still holds: the token has not ended, it is not long ago, and the keys are the same.
    #[must_use]
    pub fn still_hold(&self, now: Timestamp) -> bool {
        now < self.until
            && self.keys.as_ref().is_none_or(|(provider, keys)| provider.key_generation(now) == Some(*keys))
    }
}

#[cfg(test)]
impl AccessClaims {
    /// Claims that nobody vouched for, for tests of what keeps them.
    pub(crate) fn lasting(until: Timestamp) -> Self {
        Self { claims: Map::new(), until, keys: None, skew: Duration::ZERO }
    }
}

impl fmt::Debug for AccessClaims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[access claims]")
    }
}

/// Why a bearer is not accepted. The text is for the log and holds no part of a token that nobody signed.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// `invalid_token` (RFC 6750 3.1).
    #[error("{0}")]
    Token(String),
    /// It is a good token of this issuer that is meant for others: most likely something to configure.
    #[error("{0}")]
    Audience(String),
    /// `insufficient_scope` (RFC 6750 3.1).
    #[error("the token lacks the scope {0}")]
    Scope(String),
    /// Nobody can tell now.
    #[error(transparent)]
    Provider(#[from] Error),
}

impl From<Rule> for Denied {
    fn from(rule: Rule) -> Self {
        Self::Token(rule.to_owned())
    }
}

impl From<Broken> for Denied {
    fn from(broken: Broken) -> Self {
        Self::Token(broken.to_string())
    }
}

impl From<Invalid> for Denied {
    fn from(invalid: Invalid) -> Self {
        Self::Token(invalid.to_string())
    }
}

impl From<Unverifiable> for Denied {
    fn from(error: Unverifiable) -> Self {
        match error {
            Unverifiable::Provider(error) => Self::Provider(error),
            bad => Self::Token(bad.to_string()),
        }
    }
}

impl Verifier {
    /// For `config`, whose issuers are running as `issuers`, in the same order.
    #[must_use]
    pub const fn new(config: config::Bearer, issuers: Vec<Issuer>) -> Self {
        Self { config, issuers }
    }

    /// What it was built from.
    #[must_use]
    pub const fn config(&self) -> &config::Bearer {
        &self.config
    }

    /// Verifies a bearer token: a JWT by the issuer's keys, an opaque one by asking the issuer.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<AccessClaims, Denied> {
        if token.len() > MAX_LEN {
            return Err("it is too long".into());
        }
        // A JOSE header begins with `{"`, which is `ey` in base64url. What begins so is never shown to an issuer: it
        // may be the token of another one.
        let introspector = self.issuers.iter().find_map(|issuer| issuer.introspector.as_ref());
        match introspector {
            Some(client) if !token.starts_with("ey") => {
                let claims = client.introspect(token).await?;
                self.judge_introspected(claims, client, now)
            }
            _ => self.verify_jwt(token, now).await,
        }
    }

    async fn verify_jwt(&self, token: &str, now: Timestamp) -> Result<AccessClaims, Denied> {
        let token = Unverified::parse(token, MAX_LEN)?;
        let claims = token.read()?;
        let said = claims.get("iss").and_then(Value::as_str).ok_or("iss is missing or no string")?;
        let issuer = self.issuers.iter().find(|issuer| issuer.provider.config().issuer == said);
        let provider = &issuer.ok_or("iss is none of the issuers of this route, byte for byte")?.provider;
        // Metadata narrow the algorithms of ID tokens alone, and say nothing of those for APIs.
        let (signed, generation) = provider.check(&token, &provider.config().signing_algs, now).await?;
        let token = token.verified(claims, signed);
        let rules = Rules { issuer: said_by(provider), skew: provider.config().clock_skew, now };
        let expires = self.judge(&token, &rules)?;
        self.judge_scopes(&token.claims)?;
        let keys = Some((Arc::clone(provider), generation));
        let until = expires.min(now.plus(REMEMBERED));
        Ok(AccessClaims { claims: claims::without_sources(token.claims), until, keys, skew: rules.skew })
    }

    /// The rules of RFC 9068 4 and RFC 8725 3 for a JWT whose signature is right. Returns `exp`.
    fn judge(&self, token: &Verified, rules: &Rules<'_>) -> Result<Timestamp, Denied> {
        let claims = &token.claims;
        // RFC 8725 3.11, 3.12: what was made for another purpose is no access token, however well signed.
        of_our_kind(token, self.config.profile)?;
        rules.issuer(claims)?;
        self.judge_audience(&claims::audiences(claims)?)?;
        rules.not_expired(claims)?;
        rules.already_valid(claims)?;
        let issued = rules.issued_at(claims)?;
        claims::subject(claims)?;
        if self.config.profile == TokenProfile::Rfc9068 {
            issued.ok_or("iat is missing")?;
            claims::text(claims, "jti")?.ok_or("jti is missing")?;
            claims::text(claims, "client_id")?.ok_or("client_id is missing")?;
        }
        self.judge_party(claims)?;
        Ok(claims::date(claims, "exp")?.ok_or("exp is missing")?)
    }

    /// The same for what an issuer says about an opaque token (RFC 7662 2.2): it need not repeat what it checked.
    fn judge_introspected(
        &self,
        claims: Map<String, Value>,
        client: &Client,
        now: Timestamp,
    ) -> Result<AccessClaims, Denied> {
        let provider = &client.provider;
        let rules = Rules { issuer: said_by(provider), skew: provider.config().clock_skew, now };
        not_bound(&claims)?;
        if claims.contains_key("iss") {
            rules.issuer(&claims)?;
        }
        self.judge_audience(&claims::audiences(&claims)?)?;
        let expires = claims::date(&claims, "exp")?;
        if expires.is_some() {
            rules.not_expired(&claims)?;
        }
        rules.already_valid(&claims)?;
        rules.issued_at(&claims)?;
        claims::subject(&claims)?;
        self.judge_party(&claims)?;
        self.judge_scopes(&claims)?;
        let most = now.plus(REMEMBERED);
        let until = expires.map_or(most, |expires| expires.min(most));
        Ok(AccessClaims { claims: claims::without_sources(claims), until, keys: None, skew: rules.skew })
    }

    fn judge_audience(&self, audiences: &[&str]) -> Result<(), Denied> {
        let accepted = &self.config.audiences;
        if audiences.iter().any(|audience| accepted.iter().any(|accepted| accepted == audience)) {
            return Ok(());
        }
        Err(Denied::Audience(format!(
            "aud is \"{}\", and this route accepts \"{}\": let the provider put one of these into its tokens, or add \
             what it puts there to `audiences` if that stands for this API alone",
            escaped(&audiences.join("\", \"")),
            accepted.join("\", \"")
        )))
    }

    fn judge_party(&self, claims: &Map<String, Value>) -> Result<(), Denied> {
        let allowed = &self.config.authorized_parties;
        if allowed.is_empty() {
            return Ok(());
        }
        let party = match claims::text(claims, "azp")? {
            Some(party) => Some(party),
            None => claims::text(claims, "client_id")?,
        };
        if party.is_some_and(|party| allowed.iter().any(|allowed| allowed == party)) {
            return Ok(());
        }
        Err("azp, or else client_id, is none of authorized_parties".into())
    }

    fn judge_scopes(&self, claims: &Map<String, Value>) -> Result<(), Denied> {
        let required = &self.config.required_scopes;
        if required.is_empty() {
            return Ok(());
        }
        let granted = scopes(claims);
        match required.iter().find(|required| !granted.contains(&required.as_str())) {
            Some(missing) => Err(Denied::Scope(missing.clone())),
            None => Ok(()),
        }
    }
}

fn said_by(provider: &Provider) -> &str {
    &provider.config().issuer
}

/// Scopes as the world writes them: `scope` by RFC 9068 2.2.3 a string, elsewhere a list; `scp` where `scope` is missing.
fn scopes(claims: &Map<String, Value>) -> Vec<&str> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}

/// Whether a JWT is an access token, as far as tokens tell.
fn of_our_kind(token: &Verified, profile: TokenProfile) -> Result<(), Rule> {
    let claims = &token.claims;
    let typ = token.typ.as_deref().map(str::to_ascii_lowercase);
    match (profile, typ.as_deref()) {
        (_, Some("at+jwt" | "application/at+jwt")) => {}
        (TokenProfile::Rfc9068, _) => return Err("typ is not at+jwt"),
        (TokenProfile::Jwt, None | Some("jwt" | "application/jwt")) => {}
        (TokenProfile::Jwt, Some(_)) => return Err("typ is that of another kind of token"),
    }
    // An ID token is meant for the client, and whoever gets one could be anybody's API (OpenID Connect Core 3.1.3.6).
    let scoped = claims.contains_key("scope") || claims.contains_key("scp");
    if ["at_hash", "c_hash", "s_hash"].iter().any(|name| claims.contains_key(*name))
        || claims.contains_key("nonce") && !scoped
    {
        return Err("it is an ID token");
    }
    // Back-Channel Logout 2.4 and RFC 8417 2.2, whose `typ` is only recommended.
    if claims.contains_key("events") {
        return Err("it is a token about events");
    }
    // Keycloak says it in the payload.
    let kind = claims.get("typ").and_then(Value::as_str).unwrap_or_default();
    if ["ID", "Refresh", "Offline", "Logout"].contains(&kind) {
        return Err("its payload says that it is another kind of token");
    }
    not_bound(claims)
}

/// A token that is bound to a key proves nothing without that key (RFC 9449 7.2, RFC 8705 3).
fn not_bound(claims: &Map<String, Value>) -> Result<(), Rule> {
    if claims.contains_key("cnf") { Err("it is bound to a key (cnf), and came as a plain bearer") } else { Ok(()) }
}

//! The running part of one issuer: what is known of it, and the loop that keeps it known.
//!
//! The last good metadata and keys stay when a fetch fails or brings something bad; keys only for as long as the
//! config allows. Whoever needs something that was never fetched waits for one attempt, not for the provider.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::jwt::{Invalid, Signed, Unverified, Verified};
use super::keys::KeySet;
use super::metadata::Metadata;
use super::pace::{Bucket, jittered, refresh_delay, retry_delay};
use super::transport::{Limits, Operation, Transport};
use super::{Error, Skew, Surroundings};
use crate::config::{self, SigningAlg};
use crate::time::Timestamp;

/// How long a request waits for metadata or keys that were never fetched.
const PATIENCE: Duration = Duration::from_secs(3);

/// A failure this recent is the answer; asking again at once would only make the queue longer.
const RECENT: Duration = Duration::from_secs(1);

/// The running part of one issuer: metadata, keys, and the loop that keeps both fresh. The loop ends with the last
/// `Arc`.
#[derive(Debug)]
pub struct Provider {
    config: Arc<config::Provider>,
    surroundings: Surroundings,
    pub(super) transport: Transport,
    metadata: ArcSwapOption<Metadata>,
    keys: ArcSwapOption<Published>,
    /// Serves two ends: one forced fetch at a time, and not too many of them.
    forced: Mutex<Bucket>,
    /// Tells the loop that somebody waits.
    wanted: Arc<Notify>,
    /// Tells those who wait that the loop got somewhere.
    progress: watch::Sender<Progress>,
    _stop: DropGuard,
}

/// A key set and when it was fetched.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) set: KeySet,
    at: Timestamp,
    /// Counts the sets that differed from the one before.
    generation: u64,
}

/// How the loop's last step went.
#[derive(Clone, Debug, Default)]
struct Progress {
    failed: Option<(Instant, String)>,
    /// Why the last look at the keys, by the loop or forced, found none that can be used.
    keys_failed: Option<String>,
}

impl Provider {
    /// Starts the loop on the current Tokio runtime; does no network I/O itself, so that a provider that is down blocks
    /// nothing.
    #[must_use]
    pub fn start(config: Arc<config::Provider>, surroundings: Surroundings) -> Arc<Self> {
        Self::start_with(config, surroundings, Limits::DEFAULT)
    }

    pub(super) fn start_with(config: Arc<config::Provider>, surroundings: Surroundings, limits: Limits) -> Arc<Self> {
        let stop = CancellationToken::new();
        let now = surroundings.clock.now();
        let provider = Arc::new(Self {
            transport: Transport::new(Arc::clone(&config), surroundings.clone(), limits),
            config,
            surroundings,
            metadata: ArcSwapOption::empty(),
            keys: ArcSwapOption::empty(),
            forced: Mutex::new(Bucket::full(now)),
            wanted: Arc::default(),
            progress: watch::Sender::default(),
            _stop: stop.clone().drop_guard(),
        });
        // Not among the tasks that a shutdown waits for: it has nothing to finish.
        let weak = Arc::downgrade(&provider);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keep_fresh(weak) => {}
            }
        });
        provider
    }

    /// The configuration that it runs with.
    #[must_use]
    pub const fn config(&self) -> &Arc<config::Provider> {
        &self.config
    }

    /// How far the provider's clock is ahead of ours, at least; `None` before its first answer.
    #[must_use]
    pub fn clock_skew(&self) -> Option<Skew> {
        self.transport.clock.skew()
    }

    /// Its clock in words for an operator, with what to do when it is off.
    #[must_use]
    pub fn describe_clock(&self) -> Option<String> {
        self.transport.clock.describe()
    }

    /// Whether metadata and keys are there, as far as the provider has them, and the keys not too old.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let metadata = self.config.jwks_uri.is_some() || self.metadata.load().is_some();
        metadata && self.key_generation(self.surroundings.clock.now()).is_some()
    }

    /// A number that changes with the keys; `None` while there are none to trust. What one of them verified holds only
    /// as long as the number does.
    #[must_use]
    pub fn key_generation(&self, now: Timestamp) -> Option<u64> {
        self.keys.load().as_ref().filter(|keys| self.is_fresh(keys, now)).map(|keys| keys.generation)
    }

    /// What the provider says about itself, if that was ever fetched.
    #[must_use]
    pub fn known_metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.load_full()
    }

    /// What the provider says about itself; waits for one attempt when it is not known yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        if self.config.jwks_uri.is_some() {
            return Err(Error::Unavailable("of this provider only the keys are known".to_owned()));
        }
        self.known(|| self.metadata.load_full()).await
    }

    /// Verifies the signature of a token of this issuer for us as its client, then reads it.
    pub(super) async fn verify(&self, token: &str, max_len: usize, now: Timestamp) -> Result<Verified, Unverifiable> {
        let token = Unverified::parse(token, max_len)?;
        let metadata = self.metadata().await?;
        let (signed, _) = self.check(&token, &metadata.signing_algs, now).await?;
        let claims = token.read()?;
        Ok(token.verified(claims, signed))
    }

    /// Checks the signature of a token of this issuer, with one forced look at newer keys when none fits. Says of which
    /// generation the keys are that made it.
    pub(super) async fn check(
        &self,
        token: &Unverified<'_>,
        allowed: &[SigningAlg],
        now: Timestamp,
    ) -> Result<(Signed, u64), Unverifiable> {
        let keys = self.known(|| self.fresh_keys(now)).await?;
        match token.check(&keys.set, allowed) {
            Err(invalid @ (Invalid::NoKey | Invalid::Signature)) => {
                let newer = self.newer_keys(&keys, now).await.map_err(|why| why.about(invalid))?;
                Ok((token.check(&newer.set, allowed)?, newer.generation))
            }
            result => Ok((result?, keys.generation)),
        }
    }

    pub(super) fn fresh_keys(&self, now: Timestamp) -> Option<Arc<Published>> {
        self.keys.load_full().filter(|keys| self.is_fresh(keys, now))
    }

    fn is_fresh(&self, keys: &Published, now: Timestamp) -> bool {
        now.since(keys.at) <= self.config.max_stale
    }

    /// `read`, or what it gives after the loop's next step.
    pub(super) async fn known<T>(&self, read: impl Fn() -> Option<T>) -> Result<T, Error> {
        if let Some(known) = read() {
            return Ok(known);
        }
        let mut progress = self.progress.subscribe();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = progress.borrow_and_update().clone();
            // Read after the mark, so that what comes in between is either read here or waited for below.
            if let Some(known) = read() {
                return Ok(known);
            }
            if let Some((_, why)) = last.failed.filter(|(at, _)| at.elapsed() < RECENT) {
                return Err(Error::Unavailable(why));
            }
            self.wanted.notify_one();
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, progress.changed()).await.is_err() {
                return Err(Error::Unavailable("not known yet".to_owned()));
            }
        }
    }

    /// A key set newer than `tried`, fetched now if nobody else just did. However it ends, the token stays unverified
    /// without one (JV-14).
    async fn newer_keys(&self, tried: &Arc<Published>, now: Timestamp) -> Result<Arc<Published>, NoNewer> {
        let arrived = Instant::now();
        let mut bucket = self.forced.lock().await;
        if let Some(current) = self.keys.load_full().filter(|current| !Arc::ptr_eq(current, tried)) {
            return Ok(current);
        }
        // A fetch that failed while this one waited in line is its answer, too.
        let failed = self.progress.borrow().failed.as_ref().is_some_and(|(at, _)| *at >= arrived);
        let provider = self.config.name.as_str();
        if failed || !bucket.take(now) {
            self.surroundings.metrics.jwks_fetch(provider, "forced", "throttled");
            return Err(self.progress.borrow().keys_failed.clone().map_or(NoNewer::Throttled, NoNewer::OutOfReach));
        }
        let keys = self.keys_location().ok_or(NoNewer::Throttled)?;
        let fetched = self.fetch_keys(&keys, "forced").await.inspect_err(|error| self.failed(error));
        fetched.map_err(|error| NoNewer::OutOfReach(why(&error)))?;
        self.keys.load_full().ok_or(NoNewer::Throttled)
    }

    /// One turn of the loop: metadata, then keys. Returns when to come again.
    async fn turn(&self) -> Result<Duration, Error> {
        let fetched = if self.config.jwks_uri.is_some() { Ok(()) } else { self.fetch_metadata().await };
        // The last good metadata stay, and their keys are wanted all the same.
        let Some(keys) = self.keys_location() else { return fetched.map(|()| Duration::ZERO) };
        let delay = self.fetch_keys(&keys, "background").await?;
        fetched.map(|()| delay)
    }

    /// Where the keys are, if that is known.
    fn keys_location(&self) -> Option<Url> {
        match &self.config.jwks_uri {
            Some(url) => Url::parse(url).ok(),
            None => self.metadata.load().as_ref().map(|metadata| metadata.jwks_uri.clone()),
        }
    }

    async fn fetch_metadata(&self) -> Result<(), Error> {
        let url = Metadata::location(&self.config).map_err(Error::Unavailable)?;
        let answer = self.transport.get(Operation::Discovery, &url).await;
        let answer = answer.map_err(|failure| failure.into_error(Operation::Discovery))?;
        let metadata = Metadata::parse(answer.body(), &self.config)
            .map_err(|rule| Error::Unavailable(format!("metadata at {url}: {rule}")))?;
        if self.metadata.load().as_deref() != Some(&metadata) {
            self.metadata.store(Some(Arc::new(metadata)));
        }
        self.progress.send_modify(|progress| progress.failed = None);
        Ok(())
    }

    async fn fetch_keys(&self, url: &Url, trigger: &'static str) -> Result<Duration, Error> {
        let fetched = self.fetch_key_set(url, trigger).await;
        fetched.inspect_err(|error| self.progress.send_modify(|progress| progress.keys_failed = Some(why(error))))
    }

    async fn fetch_key_set(&self, url: &Url, trigger: &'static str) -> Result<Duration, Error> {
        let (provider, metrics) = (self.config.name.as_str(), &self.surroundings.metrics);
        let answer = self.transport.get(Operation::Jwks, url).await;
        let answer = answer.map_err(|failure| failure.into_error(Operation::Jwks)).inspect_err(|_| {
            metrics.jwks_fetch(provider, trigger, "error");
        })?;
        let set = KeySet::parse(answer.body()).map_err(|rule| {
            // What is bad never replaces what was good.
            metrics.jwks_fetch(provider, trigger, "unacceptable");
            Error::Unavailable(format!("keys at {url}: {rule}"))
        })?;
        if set.private_key_published {
            metrics.jwks_fetch(provider, trigger, "private_key");
            tracing::error!(provider, "provider publishes a private key; it is not used");
        }
        metrics.jwks_fetch(provider, trigger, "ok");
        metrics.jwks_keys(provider, set.len());
        let generation = match self.keys.load().as_ref() {
            Some(known) if known.set == set => known.generation,
            Some(known) => known.generation + 1,
            None => 0,
        };
        self.keys.store(Some(Arc::new(Published { set, at: self.surroundings.clock.now(), generation })));
        self.progress.send_replace(Progress::default());
        Ok(refresh_delay(answer.headers()))
    }

    fn failed(&self, error: &Error) {
        self.progress.send_modify(|progress| progress.failed = Some((Instant::now(), why(error))));
    }
}

/// The cause alone: whoever waits is told by an `Unavailable` of its own, which says so once.
fn why(error: &Error) -> String {
    match error {
        Error::Unavailable(why) => why.clone(),
        error => error.to_string(),
    }
}

/// Why there is no newer key set.
enum NoNewer {
    /// It was asked for too often. What was there at the last look is what there is.
    Throttled,
    /// The last look found nothing that could be read, for this cause.
    OutOfReach(String),
}

impl NoNewer {
    /// What follows for a token that the known keys find invalid. One that names a key which nobody could look up may be
    /// as good as any, and only one that a known key contradicts is bad.
    fn about(self, invalid: Invalid) -> Unverifiable {
        match (self, invalid) {
            (Self::OutOfReach(why), Invalid::NoKey) => {
                Error::Unavailable(format!("{invalid}, and newer keys could not be had: {why}")).into()
            }
            _ => Unverifiable::ForWantOfKeys(invalid),
        }
    }
}

/// Why a token could not be verified.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unverifiable {
    /// It is bad.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// None of the known keys made it, and newer ones could not be had.
    #[error("{0}, and newer keys could not be had")]
    ForWantOfKeys(Invalid),
    /// Nobody can tell: metadata or keys are not known at all.
    #[error(transparent)]
    Provider(#[from] Error),
}

/// Turns until the provider is gone. Holds it only while it works, so that the last `Arc` outside is the last.
async fn keep_fresh(provider: Weak<Provider>) {
    let mut outage: Option<(Instant, String)> = None;
    loop {
        let Some(running) = provider.upgrade() else {
            return;
        };
        let name = running.config.name.clone();
        let result = running.turn().await;
        running.surroundings.metrics.provider_up(name.as_str(), result.is_ok());
        let delay = match result {
            Ok(delay) => {
                if outage.take().is_some() {
                    tracing::info!(provider = %name, "provider is back");
                }
                jittered(delay)
            }
            Err(error) => {
                running.failed(&error);
                let text = error.to_string();
                let since = outage.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                // Once for each cause, not once for each attempt.
                if outage.as_ref().is_none_or(|(_, last)| *last != text) {
                    tracing::warn!(provider = %name, error = text, "provider is not available");
                }
                outage = Some((since, text));
                jittered(retry_delay(since.elapsed()))
            }
        };
        let wanted = Arc::clone(&running.wanted);
        if running.is_ready() {
            // Whoever asked during this turn has been served by it.
            let _ = timeout(Duration::ZERO, wanted.notified()).await;
        }
        drop(running);
        let _ = timeout(delay, wanted.notified()).await;
    }
}

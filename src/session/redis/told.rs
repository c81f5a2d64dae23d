//! What the connection tells of, passed on: to the cache, and to whoever has a session's streams.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::session::redis::Shared;
use crate::session::redis::link::Listener;
use crate::session::{News, SessionId};

/// News for the cache and for whoever has a session's streams.
pub(super) struct Told(pub(super) Arc<Shared>);

impl Told {
    fn tell(&self, news: News) {
        if !self.0.left.load(Ordering::Relaxed) {
            self.0.hooks.news(news);
        }
    }
}

impl Listener for Told {
    fn begins_anew(&self) {
        self.0.cache.clear();
        self.tell(News::Unknown);
    }

    fn ended(&self, id: SessionId) {
        self.0.cache.forget(id);
        self.tell(News::Ended(id));
    }

    fn changed(&self, id: SessionId) {
        self.0.cache.outdate(id);
        self.tell(News::Changed(id));
    }

    fn counted(&self, count: usize) {
        if !self.0.left.load(Ordering::Relaxed) {
            self.0.metrics.sessions_active("redis", count);
        }
    }
}

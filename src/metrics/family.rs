//! One metric family whose series are told apart by the whole tuple of label values, and can be taken out again.
//!
//! The label vectors of `prometheus` hash values without a separator, so that `("a", "bc")` and `("ab", "c")` are one
//! series there. Here every series is a metric of its own with constant labels, found by comparing the values.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use prometheus::core::Metric;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

/// What a family needs to make one series.
pub(super) trait Series: Metric {
    /// What `# TYPE` says.
    const TYPE: MetricType;

    /// A series at zero; `buckets` matters to histograms only.
    fn create(opts: Opts, buckets: &[f64]) -> prometheus::Result<Self>;
}

impl Series for IntCounter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn create(opts: Opts, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(opts)
    }
}

impl Series for IntGauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn create(opts: Opts, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(opts)
    }
}

impl Series for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn create(opts: Opts, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(opts)
    }
}

impl Series for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn create(opts: Opts, buckets: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts { common_opts: opts, buckets: buckets.to_vec() })
    }
}

/// The fixed part of a family.
pub(super) struct Head<const N: usize> {
    /// Full name.
    pub(super) name: &'static str,
    /// What `# HELP` says.
    pub(super) help: &'static str,
    /// Label names, in the order in which values are given.
    pub(super) labels: [&'static str; N],
    /// Upper bounds of the buckets of histograms.
    pub(super) buckets: &'static [f64],
}

/// Series sorted by their label values.
type Sorted<M, const N: usize> = Vec<([Box<str>; N], M)>;

/// A family with `N` labels.
pub(super) struct Family<M, const N: usize> {
    head: Head<N>,
    series: RwLock<Sorted<M, N>>,
}

impl<M: Series, const N: usize> Family<M, N> {
    pub(super) const fn new(head: Head<N>) -> Self {
        Self { head, series: RwLock::new(Vec::new()) }
    }

    /// The series with these label values; made at the first call.
    pub(super) fn with(&self, values: [&str; N]) -> M {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = position(&series, values).ok().and_then(|at| series.get(at)) {
            return found.clone();
        }
        drop(series);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        match position(&series, values) {
            Ok(at) => series.get(at).map_or_else(|| self.create(values), |(_, found)| found.clone()),
            Err(at) => {
                let made = self.create(values);
                series.insert(at, (values.map(Into::into), made.clone()));
                made
            }
        }
    }

    /// Takes out every series whose value of `label` is not to `stay`. Handles that are still held count on, unseen.
    pub(super) fn keep(&self, label: &str, stay: impl Fn(&str) -> bool) {
        let Some(at) = self.head.labels.iter().position(|name| *name == label) else { return };
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|(values, _)| values.get(at).is_none_or(|held| stay(held)));
    }

    /// The family for the encoder; `None` while it has no series.
    pub(super) fn collect(&self) -> Option<MetricFamily> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.head.name.to_owned());
        family.set_help(self.head.help.to_owned());
        family.set_field_type(M::TYPE);
        family.set_metric(series.iter().map(|(_, metric)| metric.metric()).collect());
        Some(family)
    }

    #[expect(clippy::expect_used, reason = "fails on malformed constants only; a test makes a series of every family")]
    fn create(&self, values: [&str; N]) -> M {
        let pairs = self.head.labels.iter().zip(values);
        let labels: HashMap<String, String> =
            pairs.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect();
        let opts = Opts::new(self.head.name, self.head.help).const_labels(labels);
        M::create(opts, self.head.buckets).expect("name, help, labels and buckets are well-formed constants")
    }
}

/// Where the series with these values is, or would have to stand.
fn position<M, const N: usize>(series: &Sorted<M, N>, values: [&str; N]) -> Result<usize, usize> {
    series.binary_search_by(|(held, _)| held.iter().map(|value| &**value).cmp(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family() -> Family<IntCounter, 2> {
        Family::new(Head { name: "x_total", help: "x", labels: ["a", "b"], buckets: &[] })
    }

    #[test]
    fn label_pairs_that_concatenate_alike_stay_two_series() {
        let family = family();
        family.with(["a", "bc"]).inc();
        family.with(["ab", "c"]).inc_by(2);
        assert_eq!(family.with(["a", "bc"]).get(), 1);
        assert_eq!(family.with(["ab", "c"]).get(), 2);
        assert_eq!(family.collect().unwrap().get_metric().len(), 2);
    }

    #[test]
    fn forgetting_takes_out_by_one_label_and_a_new_series_begins_at_zero() {
        let family = family();
        let held = family.with(["gone", "x"]);
        held.inc();
        family.with(["stays", "gone"]).inc();
        family.keep("a", |value| value != "gone");
        held.inc();
        let collected = family.collect().unwrap();
        assert_eq!(collected.get_metric().len(), 1);
        assert_eq!(family.with(["gone", "x"]).get(), 0);
        family.keep("no such label", |_| false);
        assert_eq!(family.collect().unwrap().get_metric().len(), 2);
    }

    #[test]
    fn an_empty_family_is_not_shown() {
        assert!(family().collect().is_none());
    }
}

//! What is printed of the runs of one row.

use crate::load::{Run, median};

/// Prints both sides of a row by their medians, the ratio of those, and that of each round.
pub(crate) fn print(name: &str, target: f64, bare: &[Run], ours: &[Run]) {
    println!("\n{name:<12} {:>16} {:>12} {:>10} {:>10}", "CPU us/request", "requests/s", "p50 us", "p99 us");
    for (side, runs) in [("yardstick", bare), ("vestibule", ours)] {
        let of = |value: fn(&Run) -> f64| median(runs, value);
        let (cpu, rate) = (of(|run| run.cpu_micros), of(|run| run.rate));
        println!("{side:<12} {cpu:>16.2} {rate:>12.0} {:>10.0} {:>10.0}", of(|run| run.p50), of(|run| run.p99));
    }
    let ratios: Vec<f64> = bare.iter().zip(ours).map(|(bare, ours)| ours.cpu_micros / bare.cpu_micros).collect();
    let spread: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
    let ratio = median(ours, |run| run.cpu_micros) / median(bare, |run| run.cpu_micros);
    println!("CPU ratio of medians {ratio:.3} (each round: {}); target {target}", spread.join(" "));
}

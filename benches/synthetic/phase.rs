//! What a part of the work costs the process: wall and CPU time, and peak memory above what it held
//! when the part began. Linux tells.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "for a terminal, to three digits"
)]

use std::time::Instant;

/// A part of the work whose cost is measured.
pub(crate) struct Phase {
    name: &'static str,
    wall: Instant,
    cpu: f64,
    held: u64,
}

impl Phase {
    /// Begins with a new high-water mark.
    pub(crate) fn begin(name: &'static str) -> Self {
        reset_peak();
        Self { name, wall: Instant::now(), cpu: cpu_seconds(), held: memory("VmRSS") }
    }

    /// Leaves the CPU time of `work` out, which this thread does alone.
    pub(crate) fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = thread_seconds();
        let result = work();
        self.cpu += thread_seconds() - before;
        result
    }

    /// Prints what the part cost for each of so many references.
    pub(crate) fn end(self, references: u64) {
        let references = references as f64;
        let cpu = (cpu_seconds() - self.cpu) * 1e6 / references;
        let (peak, held) = (memory("VmHWM"), memory("VmRSS"));
        println!(
            "{:>25}: {cpu:.3} µs CPU a reference, {:.2} s wall, peak {:.0} MB ({:+.1} B a reference above the {:.0} MB at the beginning), held after {:.0} MB",
            self.name,
            self.wall.elapsed().as_secs_f64(),
            peak as f64 / 1e6,
            (peak as f64 - self.held as f64) / references,
            self.held as f64 / 1e6,
            held as f64 / 1e6,
        );
    }
}

/// CPU time of all threads of this process so far, those that have ended included.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

/// CPU time of this thread so far.
fn thread_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// A figure of the process's memory, in bytes.
pub(crate) fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Sets the high-water mark of the process's memory to what it holds now.
pub(crate) fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

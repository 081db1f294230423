//! Listing by ranks, against an in-memory server whose faults are settings.

/// LIST requests stay within their budgets.
mod budget;
/// Servers that misbehave end in right results or an error.
mod misbehaviour;
/// The server, and the oracle.
mod mock;
/// Random grids, regions, patterns and pages against the oracle.
mod properties;
/// Back-pressure, cancellation, retries, concurrency.
mod streaming;

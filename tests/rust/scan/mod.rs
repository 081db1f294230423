//! Listing by ranks, against an in-memory server whose faults are settings.

/// LIST requests stay within their budgets.
mod budget;
/// Listings by tokens: by leading coordinates, and how their ends are proven.
mod fallback;
/// Servers that misbehave end in right results or an error.
mod misbehaviour;
/// The server, and the oracle.
mod mock;
/// Pages in the order of their keys.
mod ordered;
/// Random grids, regions, patterns and pages against the oracle.
mod properties;
/// The estimate from a few pages.
mod sampling;
/// Back-pressure, cancellation, retries, concurrency.
mod streaming;

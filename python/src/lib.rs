//! The compiled half of the Python package: translates between Python and the `refreeze` crate.
//!
//! Nothing is decided here. Stores come in as obstore objects, metadata as documents that
//! zarr-python made, results go out as JSON, errors as the classes of `refreeze.exceptions`.

mod concurrency;
mod contents;
mod copy;
mod crew;
mod doctor;
mod errors;
mod foreign;
mod handed_over;
mod ingest;
mod inventory;
mod listing;
mod reading;
mod region;
mod runtime;
mod shown;
mod stores;
mod upkeep;
mod verify;
mod web;
mod work;

use pyo3::prelude::*;

#[pymodule]
mod _refreeze {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::contents::{OpenedTarget, differences, open_target};
    #[pymodule_export]
    use super::copy::{containers, copy};
    #[pymodule_export]
    use super::doctor::{check_writes, examine_listing};
    #[pymodule_export]
    use super::ingest::ingest;
    #[pymodule_export]
    use super::inventory::{InventoryBuilder, sample_listing};
    #[pymodule_export]
    use super::listing::{ChunkStream, estimate_arrays, list_chunks};
    #[pymodule_export]
    use super::reading::{list_folders, read_objects};
    #[pymodule_export]
    use super::region::{
        addressed_names, alignment, check_known, region_box, region_elements, resolve_region,
        slice_elements,
    };
    #[pymodule_export]
    use super::runtime::{shut_down, stop_calls};
    #[pymodule_export]
    use super::shown::{error_line, redact, remember_secrets, shown_text};
    #[pymodule_export]
    use super::stores::{OpenedSource, open_source};
    #[pymodule_export]
    use super::upkeep::{gc, publish, relocate, remove_published, status};
    #[pymodule_export]
    use super::verify::{Comparison, verify};
    #[pymodule_export]
    use super::web::open_web;
    #[pymodule_export]
    use super::work::carry_out;

    /// The runtime's threads end while they can still call Python.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let shut_down = module.getattr("shut_down")?;
        module.py().import("atexit")?.call_method1("register", (shut_down,))?;
        Ok(())
    }

    // Defaults and limits of the core, which the package's checks go by.

    /// Bytes for everything that grows with the work, when nothing is said.
    #[pymodule_export]
    const DEFAULT_MEMORY: u64 = refreeze::plan::DEFAULT_MEMORY;
    /// The least that an ingest can work with.
    #[pymodule_export]
    const LEAST_MEMORY: u64 = refreeze::plan::LEAST_MEMORY;
    /// Requests in flight at the beginning, when their number is to be found.
    #[pymodule_export]
    const FIRST_CONCURRENCY: usize = refreeze::list::limit::FIRST_CONCURRENCY;
    /// Requests in flight at most, when their number is to be found.
    #[pymodule_export]
    const MOST_CONCURRENCY: usize = refreeze::list::limit::MOST_CONCURRENCY;
    /// The most references of a manifest that other readers accept.
    #[pymodule_export]
    const MAX_REFERENCES_PER_MANIFEST: u32 = refreeze::plan::MAX_REFERENCES_PER_MANIFEST;
    /// Keys of one LIST request.
    #[pymodule_export]
    const PAGE_SIZE: u32 = refreeze::source::page::PAGE_SIZE;
    /// Requests to a web server that need no further consent.
    #[pymodule_export]
    const MOST_PROBED: u64 = refreeze::source::web::MOST_REQUESTS;

    /// Version of the compiled crate.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python packages use")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

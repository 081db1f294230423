//! The direct path beside the session path, and what other clients can do after a direct commit.

mod drafts;
mod equal;
mod ordinary;
mod replace;
mod staged;
mod world;

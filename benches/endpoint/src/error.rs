//! What can go wrong before the endpoint serves; requests never fail with these.

/// A configuration or start-up error.
#[derive(Debug)]
pub enum Error {
    /// The configuration makes no sense; the text says where.
    Config(String),
    /// The socket could not be bound, or a file not be read.
    Io(std::io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(what) => write!(f, "configuration: {what}"),
            Self::Io(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Self::Io(source)
    }
}

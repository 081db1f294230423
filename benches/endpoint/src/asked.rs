//! What a LIST request asks for, and what its page turned out to be, in whichever form.

/// Form of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[default]
    S3,
    GoogleJson,
    Azure,
}

/// The parameters of a LIST request that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListRequest {
    /// In which form.
    pub dialect: Dialect,
    /// Keys must begin with this.
    pub prefix: Vec<u8>,
    /// Groups keys by the part up to its next occurrence after the prefix.
    pub delimiter: Vec<u8>,
    /// Where to start; exclusive in S3's form only.
    pub start_after: Option<Vec<u8>>,
    /// Where an earlier page ended.
    pub token: Option<String>,
    /// Most entries wanted, already capped.
    pub max_keys: usize,
    /// `encoding-type=url`
    pub url_encoded: bool,
}

/// What a page turned out to be; its entries are in the buffer.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub count: usize,
    pub truncated: bool,
    pub next_token: Option<String>,
    /// Common prefixes as JSON texts, where they stand apart from the entries.
    pub folders: Vec<String>,
}

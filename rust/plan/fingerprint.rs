//! What an ingest is known by, from one process and one version to the next.
//!
//! A fingerprint covers what determines the result and not what only determines the work (commit
//! size), so that the same ingest is recognised. Every field is a name and a text that is spelled
//! out here: nothing depends on how a type prints itself. `tests/golden/` pins both forms.

mod earlier;

use std::fmt::Display;

use sha2::{Digest as _, Sha256};

use super::hex;
use crate::grid::piece::Piece;
use crate::zarr::metadata::{ArrayLayout, ArraySpec, GroupSpec};
pub use earlier::earlier_keys;

/// The form of the fields, one of them itself.
const FORM: u32 = 2;

/// Bytes of a digest that are kept: half of it tells plans apart, and every commit carries it.
const KEPT: usize = 16;

/// Everything that determines the result of an ingest.
#[derive(Debug, Clone, Copy)]
pub struct Determinants<'a> {
    /// What the objects of the sources begin with, as URLs free of credentials.
    pub sources: &'a str,
    /// `create`, `append`, `overwrite` or `update`.
    pub mode: &'a str,
    /// `error` or `skip`.
    pub empty_chunks: &'a str,
    /// `relative` or `absolute`.
    pub locations: &'a str,
    /// Paths of the specs that are removed first.
    pub replaced: &'a [String],
    /// Other options, as text.
    pub request: &'a str,
    /// Groups to create.
    pub groups: &'a [GroupSpec],
    /// Arrays to fill, and where their chunks are.
    pub arrays: &'a [(&'a ArraySpec, &'a [Piece])],
}

impl Determinants<'_> {
    /// The fields that are hashed, in order: names and values.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("form", FORM.to_string()),
            ("sources", self.sources.to_owned()),
            ("mode", self.mode.to_owned()),
            ("empty chunks", self.empty_chunks.to_owned()),
            ("locations", self.locations.to_owned()),
            ("request", self.request.to_owned()),
        ];
        fields.extend(self.replaced.iter().map(|path| ("replaced", path.clone())));
        for group in self.groups {
            fields.push(("group", group.path.clone()));
            fields.push(("document", digest(&group.document)));
        }
        for (array, pieces) in self.arrays {
            fields.push(("array", array.path.clone()));
            fields.push(("document", digest(&array.document)));
            fields.push(("chunks", if array.copied { "copied" } else { "referenced" }.to_owned()));
            in_source(array, &mut fields);
            for piece in *pieces {
                let ranges = piece.target.ranges();
                let bounds = ranges.iter().map(|range| format!("{}-{}", range.start, range.end));
                fields.push(("piece", list(bounds)));
                fields.push(("shift", list(piece.shift.chunks(ranges.len()))));
                fields.push(("of source", piece.source.to_string()));
                in_source(&piece.array, &mut fields);
            }
        }
        fields
    }
}

/// An array's place and layout in a source.
fn in_source(array: &ArraySpec, fields: &mut Vec<(&'static str, String)>) {
    let layout: &ArrayLayout = &array.layout;
    fields.push(("source path", array.source_path.clone()));
    fields.push(("shape", list(layout.shape())));
    fields.push(("chunk shape", list(layout.chunk_shape())));
    fields.push(("keys", layout.encoding().name().to_owned()));
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A digest of fields, each preceded by its length, so that no two plans share a byte sequence.
#[derive(Default)]
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    fn finish(self) -> String {
        hex(self.0.finalize().get(..KEPT).unwrap_or_default())
    }
}

/// What the same ingest is known by: as it is written, and as earlier versions wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    written: String,
    /// Of refreeze 0.1.0 before the fields had names.
    earlier: String,
}

impl Fingerprint {
    /// The fingerprint of an ingest.
    #[must_use]
    pub fn of(determinants: &Determinants<'_>) -> Self {
        let mut written = Fields::default();
        for (name, value) in determinants.fields() {
            written.add(name.as_bytes());
            written.add(value.as_bytes());
        }
        Self { written: written.finish(), earlier: earlier::fingerprint(determinants) }
    }

    /// What is written to commits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether a recorded fingerprint is that of the same ingest, whatever version wrote it.
    #[must_use]
    pub fn is(&self, recorded: &str) -> bool {
        recorded == self.written || recorded == self.earlier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::chunk_box::ChunkBox;
    use crate::testing::{assert_golden, golden};
    use crate::zarr::key::ChunkKeyEncoding;

    fn spec(path: &str, keys: (&str, &str), shape: &[u64], copied: bool) -> ArraySpec {
        let encoding = ChunkKeyEncoding::parse(keys.0, keys.1).unwrap();
        ArraySpec {
            path: format!("/part/{path}"),
            source_path: path.to_owned(),
            document: format!("{{\"of\": \"{path}\"}}").into_bytes(),
            layout: ArrayLayout::new(shape.to_vec(), vec![2; shape.len()], encoding).unwrap(),
            copied,
        }
    }

    /// Gives a plan with every kind of key, a shifted piece, a scalar and a replaced group.
    fn with_plan<T>(use_it: impl FnOnce(&Determinants<'_>) -> T) -> T {
        let (default, v2) = (("default", "/"), ("v2", "."));
        let series = spec("series", default, &[12, 5], false);
        let dotted = spec("dot \"é\" it's", ("default", "."), &[7], false);
        let old = spec("old/τ", v2, &[], false);
        let time = spec("time", ("v2", "/"), &[12], true);
        let from = spec("series", v2, &[8, 5], false);
        let region = |ranges: &[(u32, u32)]| {
            ChunkBox::from_ranges(ranges.iter().map(|(start, end)| *start..*end).collect())
        };
        let shifted = Piece::of(&series, 1, from, region(&[(2, 6), (0, 3)]), vec![-2, 0]).unwrap();
        let first = Piece::of(&series, 0, series.clone(), region(&[(0, 2), (0, 3)]), vec![0, 0]);
        let series_pieces = [first.unwrap(), shifted];
        let (dotted_pieces, old_pieces) = ([Piece::whole(0, &dotted)], [Piece::whole(0, &old)]);
        let document = b"{\"group\": true}".to_vec();
        let group = GroupSpec { path: "/part".to_owned(), document, from_source: true };
        use_it(&Determinants {
            sources: "s3://bucket/one.zarr/, file:///data/two.zarr/",
            mode: "overwrite",
            empty_chunks: "skip",
            locations: "absolute",
            replaced: &["/part/a".to_owned(), "/part/b \"c\"".to_owned()],
            request: "{\"append_dim\": null, \"concat_dim\": \"time\", \"region\": {}}",
            groups: &[group],
            arrays: &[
                (&series, &series_pieces),
                (&dotted, &dotted_pieces),
                (&old, &old_pieces),
                (&time, &[]),
            ],
        })
    }

    #[test]
    fn fields_and_fingerprint_are_those_of_the_golden_file() {
        let written = with_plan(|plan| {
            let fingerprint = Fingerprint::of(plan);
            let fields = plan.fields().into_iter();
            let lines = fields.map(|(name, value)| format!("{name}: {value}\n"));
            format!("{}fingerprint: {}\n", lines.collect::<String>(), fingerprint.as_str())
        });
        assert_golden(&written, "plan.txt");
    }

    #[test]
    fn the_fingerprint_of_the_version_before_is_recognised() {
        let recorded = golden("plan-0.1.0.txt");
        let (text, recorded) = recorded.trim_end().rsplit_once("\nfingerprint: ").unwrap();
        with_plan(|plan| {
            let fingerprint = Fingerprint::of(plan);
            assert!(fingerprint.is(recorded) && fingerprint.is(fingerprint.as_str()));
            assert_ne!(fingerprint.as_str(), recorded);
            assert!(!fingerprint.is(""));
            assert_eq!(earlier::text(plan), text);
        });
    }

    #[test]
    fn whatever_determines_the_result_changes_both_fingerprints() {
        with_plan(|plan| {
            let (one, array) = (Fingerprint::of(plan), plan.arrays.to_vec());
            let without = &array[..3];
            let (no_pieces, others): (&[Piece], _) = (&[], [("/x".to_owned())]);
            let mut moved = array.clone();
            moved[0].1 = no_pieces;
            for other in [
                Determinants { sources: "s3://bucket/one.zarr/", ..*plan },
                Determinants { mode: "create", ..*plan },
                Determinants { empty_chunks: "error", ..*plan },
                Determinants { locations: "relative", ..*plan },
                Determinants { replaced: &others, ..*plan },
                Determinants { request: "{}", ..*plan },
                Determinants { groups: &[], ..*plan },
                Determinants { arrays: without, ..*plan },
                Determinants { arrays: &moved, ..*plan },
            ] {
                let other = Fingerprint::of(&other);
                assert_ne!((&other.written, &other.earlier), (&one.written, &one.earlier));
                assert_ne!(other.written, one.written);
                assert_ne!(other.earlier, one.earlier);
            }
        });
    }
}

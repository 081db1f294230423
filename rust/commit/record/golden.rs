//! What commits say of a run, held against files of what was written before: byte for byte as it is
//! written, and value for value as it is read.

use chrono::DateTime;
use icechunk::format::SnapshotId;
use icechunk::format::snapshot::{SnapshotInfo, SnapshotProperties};
use serde_json::Value;

use super::super::runs::staging_branch;
use super::*;
use crate::plan::ExpectedArray;
use crate::testing::{assert_golden, golden};
use crate::zarr::key::ChunkKeyEncoding;
use crate::zarr::metadata::ArrayLayout;

const RUN_ID: &str = "vy76p925kr5w3m6kwp00";

fn identity() -> RunIdentity {
    RunIdentity {
        run_id: RUN_ID.to_owned(),
        listing: None,
        fingerprint: "00112233445566778899aabbccddeeff".to_owned(),
        source: "s3://bucket/one.zarr, two.zarr".to_owned(),
    }
}

/// A plan with groups of batches of every kind.
fn run_record() -> RunRecord {
    let encoding = |name, separator| ChunkKeyEncoding::parse(name, separator).unwrap();
    let layout = |shape: &[u64], encoding| {
        ArrayLayout::new(shape.to_vec(), vec![1; shape.len()], encoding).unwrap()
    };
    let layouts = [
        layout(&[40, 10], encoding("default", "/")),
        layout(&[40], encoding("default", ".")),
        layout(&[1, 100, 100], encoding("v2", "/")),
        layout(&[5], encoding("v2", ".")),
    ];
    let splits = [vec![10, 10], vec![20], vec![1, 10, 10], vec![5]];
    let known = layouts.iter().zip(splits).enumerate();
    let expected: Vec<_> = known
        .map(|(array, (layout, split))| ExpectedArray {
            array,
            layout,
            leading: [Some("time"), Some("time"), None, None][array],
            split,
            expected: layout.chunks(),
        })
        .collect();
    let arrays = layouts.iter().enumerate().map(|(array, layout)| RecordedArray {
        path: format!("/part/{array}"),
        source_path: array.to_string(),
        shape: layout.shape().to_vec(),
        keys: layout.encoding().name().to_owned(),
        copied: array == 3,
    });
    let options = RunOptions {
        source: "s3://bucket/one.zarr/, file:///two.zarr/".to_owned(),
        mode: "overwrite".to_owned(),
        empty_chunks: "error".to_owned(),
        locations: "relative".to_owned(),
        checksum: "last-modified".to_owned(),
        plan: "{}".to_owned(),
    };
    let (base, groups) = (Some("1CECHNKREP0F1RSTCMT0".to_owned()), vec!["/part".to_owned()]);
    let mut record = RunRecord::new("main".to_owned(), base, options, arrays.collect(), groups);
    record.replaced = vec!["/part/old".to_owned()];
    record.batches = Batches::new(&expected, 200);
    record.batches_total = record.batches.count(&layouts);
    record
}

fn completed_part() -> Completed {
    let rest = [Part { array: 2, region: ChunkBox::from_ranges(vec![0..1, 10..20, 0..10]) }];
    Completed {
        next: 3,
        arrays: vec![
            ArrayAddition {
                references: 200,
                bytes: 4_000,
                sample: Some(7),
                ..ArrayAddition::of(0)
            },
            ArrayAddition {
                references: 9,
                changed: 4,
                unchanged: 3,
                removed: 2,
                copied: 1,
                bytes: 180,
                missing: Some(vec![0, 4, 2]),
                ..ArrayAddition::of(2)
            },
        ],
        manifests: 3,
        manifest_bytes: 2_345,
        ..Completed::default()
    }
    .with_rest(&rest)
}

fn snapshot(metadata: SnapshotProperties) -> SnapshotInfo {
    SnapshotInfo {
        id: SnapshotId::try_from(RUN_ID.to_uppercase().as_str()).unwrap(),
        parent_id: None,
        flushed_at: DateTime::UNIX_EPOCH,
        message: String::new(),
        metadata,
        pruned_ancestor_tx_logs: Vec::new(),
    }
}

fn text(properties: &SnapshotProperties) -> String {
    serde_json::to_string_pretty(properties).unwrap() + "\n"
}

/// The commit that a golden file holds the properties of.
fn recorded(name: &str) -> SnapshotInfo {
    snapshot(serde_json::from_str(&golden(name)).unwrap())
}

#[test]
fn the_first_commit_is_that_of_the_golden_file() {
    let record = run_record();
    let written = identity().properties(&Completed::default(), Some(&record));
    assert_golden(&text(&written), "commit-first.json");
    let read = recorded("commit-first.json");
    assert_eq!(RunIdentity::of(&read), Some(identity()));
    assert_eq!(completed(&read), Some(Completed::default()));
    assert_eq!(super::record(&read), Some(record));
    assert!(has_record(&read) && RunIdentity::is_on(&read, RUN_ID));
    assert_eq!(staging_branch(RUN_ID), "refreeze/vy76p925kr5w3m6kwp00");
}

#[test]
fn a_later_commit_is_that_of_the_golden_file() {
    let written = identity().properties(&completed_part(), None);
    assert_golden(&text(&written), "commit-later.json");
    let read = recorded("commit-later.json");
    assert_eq!(RunIdentity::of(&read), Some(identity()));
    assert_eq!(completed(&read), Some(completed_part()));
    assert!(!has_record(&read));
}

#[test]
fn the_only_commit_of_a_run_is_that_of_the_golden_file() {
    let written = identity().properties_of_all(&run_record());
    assert_golden(&text(&written), "commit-only.json");
    let read = recorded("commit-only.json");
    let expected = RunIdentity { fingerprint: String::new(), ..identity() };
    assert_eq!(RunIdentity::of(&read), Some(expected));
    assert_eq!(mode(&read).as_deref(), Some("overwrite"));
    let all = Completed { next: run_record().batches_total, all: true, ..Completed::default() };
    assert_eq!(completed(&read), Some(all));
}

#[test]
fn a_record_of_another_layout_is_not_read() {
    let mut read = recorded("commit-first.json");
    let plan = read.metadata.get_mut(RECORD).and_then(Value::as_object_mut).unwrap();
    plan.insert("format".to_owned(), json!(FORMAT + 1));
    assert_eq!(super::record(&read), None);
    assert!(has_record(&read));
}

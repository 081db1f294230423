//! What becomes of listed chunks, and what a batch knows of those that are missing.

use arrow_array::{
    FixedSizeListArray, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field};
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::list::chunk_schema;
use crate::testing::{layout, sparse_batch};

/// Coordinates in the source, bytes, microseconds, `ETag`.
type Listed<'a> = (&'a [u32], u64, i64, Option<&'a str>);

fn records(ndim: usize, chunks: &[Listed<'_>]) -> RecordBatch {
    let coords: Vec<u32> = chunks.iter().flat_map(|chunk| chunk.0).copied().collect();
    let list = FixedSizeListArray::try_new_with_length(
        Arc::new(Field::new("item", DataType::UInt32, false)),
        i32::try_from(ndim).unwrap(),
        Arc::new(UInt32Array::from(coords)),
        None,
        chunks.len(),
    );
    let sizes = UInt64Array::from_iter_values(chunks.iter().map(|chunk| chunk.1));
    let times = TimestampMicrosecondArray::from_iter_values(chunks.iter().map(|chunk| chunk.2));
    let tags: StringArray = chunks.iter().map(|chunk| chunk.3).collect();
    RecordBatch::try_new(
        chunk_schema(ndim).unwrap(),
        vec![
            Arc::new(list.unwrap()),
            Arc::new(sizes),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(tags),
        ],
    )
    .unwrap()
}

fn rows(range: Range<u32>) -> ChunkBox {
    ChunkBox::from_ranges(std::iter::once(range).collect())
}

fn spec(grid: &[u64]) -> ArraySpec {
    let (path, source_path, document) = ("/x".to_owned(), "x".to_owned(), Vec::new());
    ArraySpec { path, source_path, document, layout: layout(grid), copied: false }
}

#[test]
fn seconds_are_rounded_up_and_clamped() {
    assert_eq!(whole_seconds(0, false), Some(0));
    assert_eq!(whole_seconds(1, false), Some(1));
    assert_eq!(whole_seconds(1_000_000, false), Some(1));
    assert_eq!(whole_seconds(-5, false), Some(0));
    assert_eq!(whole_seconds(i64::from(u32::MAX) * 1_000_000, false), Some(u32::MAX));
    assert_eq!(whole_seconds(i64::from(u32::MAX) * 1_000_000 + 1, false), None);
    assert_eq!(whole_seconds(i64::MAX, false), None);
    assert_eq!(whole_seconds(i64::MIN, false), Some(0));
    assert_eq!(whole_seconds(7_000_000, true), Some(8));
    assert_eq!(whole_seconds(7_000_001, true), Some(8));
}

#[test]
fn memory_stays_near_16_bytes_a_reference() {
    let large = sparse_batch(&layout(&[100_000]), &[], u64::MAX);
    assert_eq!(large.len(), 100_000);
    assert!((1_600_000..2_100_000).contains(&large.held_bytes()), "{}", large.held_bytes());
    // A grid that nobody fills takes memory by what is there.
    let wide = layout(&[1_000_000, 1_000_000]);
    let mut batch = ReferenceBatch::new(&wide, ChunkBox::whole(&wide), &[1, 1_000]);
    for index in 0..1_000 {
        batch.push(&[index * 997, index * 13], 5, 5).unwrap();
    }
    let each = size_of::<Packed>() + size_of::<Bucket>() + size_of::<(u64, usize)>() + 1;
    assert!((each * 1_000..200_000).contains(&batch.held_bytes()), "{}", batch.held_bytes());
    assert_eq!(batch.first_missing(), Some(vec![0, 1]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let array = layout(&[4]);
    let mut batch = ReferenceBatch::new(&array, ChunkBox::whole(&array), &[2]);
    assert_eq!(batch.push(&[3], 1 << 48, 0), None);
    assert_eq!(batch.push(&[3], (1 << 48) - 1, 0), Some(()));
    assert_eq!((batch.len(), batch.first().unwrap().index), (1, 3));
    assert_eq!(batch.push(&[0], 1 << 48, 0), None);
    let numbers: Vec<_> = batch.into_buckets().1.iter().map(|bucket| bucket.number).collect();
    assert_eq!(numbers, [1]);
}

#[test]
fn nothing_is_missing_where_nothing_is_asked_for() {
    let array = layout(&[4]);
    let nothing = rows(3..3);
    assert_eq!(ReferenceBatch::new(&array, nothing, &[4]).first_missing(), None);
}

#[test]
fn what_is_listed_becomes_references_by_the_rules() {
    let array = spec(&[9]);
    let of = |listed: Listed<'_>, rules| {
        let part = rows(0..4);
        let mut batch = ReferenceBatch::new(&array.layout, part, &[2]);
        let shift = Shift::new(vec![5]);
        let before = records(1, &[(&[5], 1, 1, Some("a"))]);
        batch.extend(&before, &array, &shift, rules).unwrap();
        let added = batch.extend(&records(1, &[listed]), &array, &shift, rules);
        let tag = batch.tags.as_ref().map(|tags| tags.get(1).to_owned());
        added.map(|added| (added, batch.into_sorted().pop().unwrap(), tag))
    };
    let (rules, tags) = (ChunkRules::default(), ChecksumBy::ETag);
    let none = ChunkRules { checksum: ChecksumBy::None, ..rules };
    let tags = ChunkRules { checksum: tags, ..rules };
    let skip = ChunkRules { empty_chunks: EmptyChunks::Skip, ..rules };
    let next = ChunkRules { next_second: true, ..rules };
    let reference = |index, size, last_modified| ChunkReference { index, size, last_modified };
    let listed: Listed<'_> = (&[8], 7, 2_000_000, Some("b"));
    assert_eq!(of(listed, rules).unwrap(), (1, reference(3, 7, 2), None));
    assert_eq!(of(listed, next).unwrap(), (1, reference(3, 7, 3), None));
    assert_eq!(of(listed, none).unwrap(), (1, reference(3, 7, 0), None));
    assert_eq!(of(listed, tags).unwrap(), (1, reference(3, 7, 1), Some("b".to_owned())));
    assert_eq!(of((&[8], 0, 0, None), skip).unwrap(), (0, reference(0, 1, 1), None));
    for (listed, rules, kind, said) in [
        ((&[8_u32][..], 0, 0, None), rules, ErrorKind::UnsupportedArray, "x/c/8"),
        ((&[8], 7, i64::MAX, None), rules, ErrorKind::Listing, "2105"),
        ((&[8], 7, 0, None), tags, ErrorKind::Listing, "without an ETag"),
        ((&[8], 7, 0, Some("")), tags, ErrorKind::Listing, "without an ETag"),
        ((&[9], 7, 0, None), rules, ErrorKind::Listing, "x/c/9 of array /x was listed outside"),
        ((&[4], 7, 0, None), rules, ErrorKind::Listing, "x/c/4 of array /x was listed outside"),
        ((&[8], 1 << 48, 0, None), rules, ErrorKind::UnsupportedArray, "2^48"),
    ] {
        let error = of(listed, rules).unwrap_err();
        assert!(error.kind() == kind && error.message().contains(said), "{error:?}");
    }
}

proptest! {
    #[test]
    fn a_batch_is_its_references_and_knows_what_is_missing(
        axes in proptest::collection::vec((1_u64..7, 1_u32..4, 0_u32..3), 0..4),
        present in 0_u8..=8,
        seed in any::<u64>(),
    ) {
        let shape: Vec<_> = axes.iter().map(|axis| axis.0).collect();
        let split: Vec<_> = axes.iter().map(|axis| axis.1).collect();
        let layout = layout(&shape);
        let ranges = axes.iter().map(|(extent, _, start)| {
            let end = u32::try_from(*extent).unwrap();
            (*start).min(end - 1)..end
        });
        let part = ChunkBox::from_ranges(ranges.collect());
        let within = (0..layout.chunks()).filter(|index| part.contains(&layout.coords(*index)));
        let (held, missing): (Vec<_>, Vec<_>) = within.partition(|index| {
            (index + 1).wrapping_mul(seed | 1) >> 61 < u64::from(present)
        });
        let mut batch = ReferenceBatch::new(&layout, part, &split);
        // One further along each dimension in the source.
        let shift = Shift::new(vec![1; shape.len()]);
        let there: Vec<Vec<u32>> = held
            .iter()
            .map(|index| layout.coords(*index).iter().map(|at| at + 1).collect())
            .collect();
        let listed = there.iter().zip(&held).rev();
        let listed: Vec<_> =
            listed.map(|(coords, index)| (&coords[..], index + 1, 7_000_000, None)).collect();
        let listed = records(shape.len(), &listed);
        let added = batch.extend(&listed, &spec(&shape), &shift, ChunkRules::default()).unwrap();
        prop_assert_eq!(added, held.len() as u64);
        prop_assert_eq!((batch.len(), batch.is_empty()), (held.len() as u64, held.is_empty()));
        prop_assert_eq!(batch.bytes(), held.iter().map(|index| index + 1).sum::<u64>());
        prop_assert_eq!(batch.first().map(|chunk| chunk.index), held.last().copied());
        // Of the first manifest that lacks any, the first.
        let manifest = |index: &u64| -> Vec<u32> {
            layout.coords(*index).iter().zip(&split).map(|(at, length)| at / length).collect()
        };
        let lacking = missing.iter().min_by_key(|index| (manifest(index), **index));
        prop_assert_eq!(batch.first_missing(), lacking.map(|index| layout.coords(*index)));
        let reference = |index: &u64| ChunkReference { index: *index, size: index + 1, last_modified: 7 };
        prop_assert_eq!(batch.into_sorted(), held.iter().map(reference).collect::<Vec<_>>());
    }

    #[test]
    fn a_recorded_second_is_never_before_the_time(micros in 0_i64..4_000_000_000_000_000) {
        let seconds = i64::from(whole_seconds(micros, false).unwrap());
        prop_assert!(seconds * 1_000_000 >= micros);
        prop_assert!(seconds * 1_000_000 - micros < 1_000_000);
    }
}

//! Pages in many forms, whole and damaged: the scanner and the stock parser never disagree.

use super::common::{Differential, Outcome};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Texts as they stand in the XML, legal ones first.
fn texts(legal: &'static [&'static str], odd: &'static [&'static str]) -> BoxedStrategy<String> {
    prop_oneof![60 => select(legal), 1 => select(odd)].prop_map(str::to_owned).boxed()
}

fn key() -> BoxedStrategy<String> {
    prop_oneof![
        20 => "a/c/[0-9]{1,3}/[0-9]{1,3}",
        1 => texts(
            &["a b", "x&amp;y", "&#x2F;q", "&lt;&gt;&quot;&apos;", "é/ü", "a/zarr.json", "%2F+", "]]"],
            &["", " a", "a ", "c/0/", "/a", "a//b", "&nbsp;", "&", "<b>k</b>", "<![CDATA[k]]>", "a<!-- c -->b", "\r\n", "\u{feff}", "a&#13;", "&#0;", "../x", "a<?p i?>b"],
        ),
    ]
    .boxed()
}

fn date() -> BoxedStrategy<String> {
    texts(
        &[
            "2024-05-06T07:08:09.123Z",
            "2024-05-06T07:08:09Z",
            "2024-02-29T00:00:00.000001Z",
            "1999-12-31T23:59:59.999999999Z",
        ],
        &[
            "",
            "2023-02-29T00:00:00Z",
            "2024-05-06T07:08:60Z",
            "2024-05-06T07:08:09+02:00",
            "2024-05-06 07:08:09Z",
            " 2024-05-06T07:08:09Z ",
            "2024-05-06T07:08:09.Z",
            "2024-05-06t07:08:09z",
            "+2024-05-06T07:08:09Z",
        ],
    )
}

fn size() -> BoxedStrategy<String> {
    texts(
        &["0", "1", "1048576", "18446744073709551615", "007"],
        &["", "-1", "+5", "18446744073709551616", "1e3", " 7 ", "0x10", "&#49;"],
    )
}

fn e_tag() -> BoxedStrategy<String> {
    texts(
        &[
            "&quot;0123456789abcdef&quot;",
            "\"0123456789abcdef\"",
            "abc",
            "&quot;a&amp;b&quot;",
            "&#34;x&#34;",
            "W/&quot;x&quot;",
        ],
        &[
            "",
            " ",
            "&quot; x&quot;",
            "&quot;x",
            "&quot;&quot;",
            "&quot;a<b/>&quot;",
            " &quot;x&quot; ",
        ],
    )
}

fn filler() -> BoxedStrategy<String> {
    texts(
        &[
            "",
            "<StorageClass>STANDARD</StorageClass>",
            "<Owner><ID>1</ID><DisplayName/></Owner>",
            "\n    ",
            "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>",
            "<X>&amp; 1 &lt; 2</X>",
        ],
        &[
            "<!-- x -->",
            "<![CDATA[x]]>",
            "text",
            "<?pi x?>",
            "<a:Key>x</a:Key>",
            "<Key/>",
            "<Size>3</Size>",
            "<Owner x='1'/>",
            "<X><Y></X></Y>",
            "</X>",
            "<Key2>z</Key2>",
            "<Key >z</Key>",
            "<Contents/>",
        ],
    )
}

fn contents() -> BoxedStrategy<String> {
    let parts = (
        key(),
        date(),
        e_tag(),
        size(),
        prop::collection::vec(filler(), 5),
        any::<Index>(),
        0u8..120,
    );
    parts
        .prop_map(|(key, date, tag, size, fill, swap, drop)| {
            let mut parts = vec![
                format!("<Key>{key}</Key>"),
                format!("<LastModified>{date}</LastModified>"),
                format!("<ETag>{tag}</ETag>"),
                format!("<Size>{size}</Size>"),
            ];
            parts.rotate_left(swap.index(4));
            if usize::from(drop) < parts.len() {
                parts.remove(usize::from(drop));
            }
            let mut text = String::from("<Contents>");
            for (i, part) in parts.iter().enumerate() {
                text.push_str(&fill[i]);
                text.push_str(part);
            }
            text + &fill[4] + "</Contents>"
        })
        .boxed()
}

fn head() -> BoxedStrategy<String> {
    texts(
        &[
            "",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
            "<?xml version='1.0' encoding='utf-8' standalone=\"yes\"?>",
            "\n",
        ],
        &[
            "\u{feff}",
            "<!DOCTYPE x>",
            "<!-- c -->",
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>",
            "<?pi?>",
            "x",
        ],
    )
}

fn meta() -> BoxedStrategy<String> {
    texts(
        &[
            "",
            "\n  ",
            "<Name>b</Name>",
            "<Prefix/>",
            "<Prefix>a&amp;b</Prefix>",
            "<KeyCount>3</KeyCount>",
            "<IsTruncated>false</IsTruncated>",
            "<IsTruncated>true</IsTruncated>",
            "<NextContinuationToken>abc+/=&amp;</NextContinuationToken>",
            "<Delimiter></Delimiter>",
        ],
        &[
            "<NextContinuationToken></NextContinuationToken>",
            "<NextContinuationToken/>",
            "<NextContinuationToken> x </NextContinuationToken>",
            "<NextContinuationToken xml:space='preserve'>y</NextContinuationToken>",
            "<IsTruncated>TRUE</IsTruncated>",
            "<IsTruncated/>",
            "<EncodingType>url</EncodingType>",
            "<EncodingType/>",
            "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>",
            "<CommonPrefixes/>",
            "text",
            "<!-- <Contents> -->",
            "<X><Contents><Key>no</Key></Contents></X>",
            "<s3:Contents><s3:Key>k</s3:Key></s3:Contents>",
            "</ListBucketResult>",
            "<Error/>",
        ],
    )
}

fn document() -> impl Strategy<Value = String> {
    let roots = texts(
        &[
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
            "<ListBucketResult>",
            "<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>",
        ],
        &[
            "<Error>",
            "<html>",
            "<s3:ListBucketResult xmlns:s3=\"x\">",
            "<ListBucketResult xmlns=\"a\" x=\"b>\">",
            "<ListBucketResult\n>",
            "<ListBucketResult/>",
            "<ListAllMyBucketsResult>",
        ],
    );
    let middle = prop::collection::vec(prop_oneof![5 => contents(), 1 => meta()], 0..8);
    let metas = (meta(), meta(), meta());
    let tail =
        texts(&["", "\n"], &["x", "<!-- c -->", "<ListBucketResult></ListBucketResult>", "\0"]);
    (head(), roots, metas, middle, tail).prop_map(|(head, root, metas, middle, tail)| {
        let name =
            root[1..].split(|c: char| !c.is_ascii_alphanumeric() && c != ':').next().unwrap_or("");
        let (a, b, c) = metas;
        format!("{head}{root}{a}{b}{}{c}</{name}>{tail}", middle.concat())
    })
}

/// Damage: cut, delete, repeat, overwrite, insert.
fn damage(body: &mut Vec<u8>, hits: &[(u8, Index, Index, u8)]) {
    const PIECES: [&[u8]; 12] = [
        b"<",
        b">",
        b"&",
        b";",
        b"/",
        b"\"",
        b"<Key>",
        b"</Key>",
        b"<Contents>",
        b"</Contents>",
        b"]]>",
        b"&#x41;",
    ];
    for (kind, a, b, byte) in hits {
        if body.is_empty() {
            return;
        }
        let (mut from, mut to) = (a.index(body.len()), b.index(body.len()));
        if from > to {
            (from, to) = (to, from);
        }
        to = to.min(from + 40);
        match kind {
            0 => body.truncate(a.index(body.len())),
            1 => drop(body.drain(from..to)),
            2 => {
                let piece = body[from..to].to_vec();
                body.splice(to..to, piece);
            }
            3 => body[from] = *byte,
            _ => {
                let piece = PIECES[usize::from(*byte) % PIECES.len()];
                body.splice(from..from, piece.iter().copied());
            }
        }
    }
}

fn cases() -> u32 {
    std::env::var("PAGESCAN_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4000)
}

#[test]
fn pages_in_many_forms() {
    run(Just(Vec::new()), 0.3);
}

#[test]
fn damaged_pages() {
    let hit = (0u8..5, any::<Index>(), any::<Index>(), any::<u8>());
    run(prop::collection::vec(hit, 1..3), 0.03);
}

/// The committed bodies, which `cargo fuzz` starts from, as they are and damaged at each place
/// in turn.
#[test]
fn the_corpus() {
    let differential = Differential::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/page");
    let mut bodies = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let body = std::fs::read(&path).unwrap();
        let step = (body.len() / 50).max(1);
        for at in (0..=body.len()).step_by(step) {
            for hit in 0..5 {
                let mut damaged = body.clone();
                if at > 0 && !damaged.is_empty() {
                    let index = at % damaged.len();
                    match hit {
                        0 => damaged[index] ^= 0x20,
                        1 => damaged.truncate(index),
                        2 => drop(damaged.drain(index..(index + 7).min(body.len()))),
                        3 => damaged.insert(index, b'<'),
                        _ => damaged[index] = 0,
                    }
                }
                if let Err(what) = differential.check(&damaged) {
                    panic!("{}, {hit} at {at}: {what}", path.display());
                }
            }
        }
        bodies += 1;
    }
    assert!(bodies >= 10, "{bodies}");
}

/// At least this share of the bodies must have been read by both, or the test tests nothing.
fn run(hits: impl Strategy<Value = Vec<(u8, Index, Index, u8)>>, least: f64) {
    let differential = Differential::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let counts = std::cell::RefCell::new([0u32; 4]);
    runner
        .run(&(document(), hits), |(document, hits)| {
            let mut body = document.into_bytes();
            damage(&mut body, &hits);
            let outcome = differential.check(&body);
            let text = String::from_utf8_lossy(&body).into_owned();
            let outcome = outcome.map_err(|what| TestCaseError::fail(format!("{what}\n{text}")))?;
            counts.borrow_mut()[outcome as usize] += 1;
            Ok(())
        })
        .unwrap();
    let counts = counts.into_inner();
    println!("agreed, both failed, only scanner, distrusted: {counts:?}");
    assert!(
        f64::from(counts[Outcome::Agreed as usize]) >= least * f64::from(cases()),
        "{counts:?}"
    );
}

//! The scanner on its own: the layouts that services write, keys in every dress, and what it must
//! leave to others. Agreement with the stock parser is `differential`'s work.

use refreeze::source::page::Page;
use refreeze::source::xml::document::{Refusal, scan};

fn read(body: &str) -> Page {
    scan(body.as_bytes().to_vec()).unwrap_or_else(|(refusal, _)| panic!("{refusal}: {body}"))
}

fn refused(body: &str) -> Refusal {
    let (refusal, returned) = scan(body.as_bytes().to_vec()).expect_err(body);
    assert_eq!(returned, body.as_bytes());
    refusal
}

fn keys(page: &Page) -> Vec<String> {
    (0..page.len()).map(|i| String::from_utf8_lossy(page.key(i)).into_owned()).collect()
}

fn one(inner: &str) -> String {
    format!("<ListBucketResult><Contents>{inner}</Contents></ListBucketResult>")
}

#[test]
fn amazon() {
    let page = read(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix/><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><IsTruncated>true</IsTruncated><Contents><Key>c/0/1</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified><ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>434234</Size><StorageClass>STANDARD</StorageClass></Contents><Contents><Key>c/0/2&amp;&lt;&gt;</Key><LastModified>2024-05-06T07:08:10.000Z</LastModified><ETag>&quot;70ee-3&quot;</ETag><Size>0</Size><Owner><ID>1</ID><DisplayName>x</DisplayName></Owner><StorageClass>GLACIER_IR</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus></Contents></ListBucketResult>"#,
    );
    assert_eq!(keys(&page), ["c/0/1", "c/0/2&<>"]);
    assert_eq!(page.e_tag(0), b"\"70ee1738b6b21e2c8a43f3a5ab0eee71\"");
    assert_eq!(page.e_tag(1), b"\"70ee-3\"");
    assert_eq!((page.entries[0].size, page.entries[1].size), (434_234, 0));
    let dates: Vec<i64> = page.entries.iter().map(|e| e.last_modified).collect();
    assert_eq!(dates, [1_714_979_289_000_000, 1_714_979_290_000_000]);
    assert!(page.truncated);
    assert_eq!(page.next_token.as_deref(), Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="));
    assert_eq!(page.ends(), Some((&b"c/0/1"[..], &b"c/0/2&<>"[..])));
}

#[test]
fn servers_written_in_go() {
    // Elements in alphabetical order, quotes as numeric entities, the flag at the end.
    let page = read(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CommonPrefix></CommonPrefix><Contents><ETag>&#34;aa&#34;</ETag><Key>k/&#39;1&#39;</Key><LastModified>2024-05-06T07:08:09Z</LastModified><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents><Delimiter></Delimiter><EncodingType></EncodingType><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount><Name>b</Name></ListBucketResult>"#,
    );
    assert_eq!(keys(&page), ["k/'1'"]);
    assert_eq!(page.e_tag(0), b"\"aa\"");
    assert!(!page.truncated);
}

#[test]
fn google_and_pretty_printers() {
    let page = read(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>\n  <Name>b</Name>\n  <IsTruncated>false</IsTruncated>\n  <Contents>\n    <Key>k</Key>\n    <Generation>17</Generation>\n    <MetaGeneration>1</MetaGeneration>\n    <LastModified>2024-05-06T07:08:09.123456Z</LastModified>\n    <ETag>\"aa\"</ETag>\n    <Size>5</Size>\n  </Contents>\n</ListBucketResult>\n",
    );
    assert_eq!(keys(&page), ["k"]);
    assert_eq!(page.entries[0].last_modified, 1_714_979_289_123_456);
    assert_eq!(page.e_tag(0), b"\"aa\"");
}

#[test]
fn keys_keep_every_byte() {
    let tail = "<Size>1</Size><LastModified>2024-05-06T07:08:09Z</LastModified>";
    for (xml, key) in [
        ("a//b", "a//b"),
        ("c/0/", "c/0/"),
        (" a ", " a "),
        ("&#x2F;&#47;&apos;", "//'"),
        ("%2F+", "%2F+"),
        ("é", "é"),
    ] {
        assert_eq!(keys(&read(&one(&format!("<Key>{xml}</Key>{tail}")))), [key]);
    }
    let mut body = one(&format!("<Key>?</Key>{tail}")).into_bytes();
    let at = body.iter().position(|b| *b == b'?').unwrap();
    body[at] = 0xFF;
    assert_eq!(scan(body).unwrap().key(0), [0xFF]);
}

#[test]
fn no_body_makes_a_short_page() {
    let body = "<?xml version=\"1.0\"?>\n<ListBucketResult><Name>b</Name><Contents><Key>k&amp;</Key><LastModified>2024-05-06T07:08:09Z</LastModified><ETag>&quot;a&quot;</ETag><Size>1</Size><Owner><ID>1</ID></Owner></Contents><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    assert_eq!(read(body).len(), 1);
    for cut in 0..body.len() {
        let (refusal, _) = scan(body.as_bytes()[..cut].to_vec()).expect_err("a cut body");
        assert!(matches!(refusal, Refusal::Incomplete | Refusal::Unusual(_)), "{cut} {refusal}");
    }
}

#[test]
fn what_is_left_to_a_full_parser() {
    let tail = "<Size>1</Size><LastModified>2024-05-06T07:08:09Z</LastModified>";
    let objects = [
        "<Key><![CDATA[k]]></Key>",
        "<Key>a<!-- c -->b</Key>",
        "<Key>a\r\nb</Key>",
        "<Key>&nbsp;</Key>",
        "<Key>&#0;</Key>",
        "<Key>a</Key><Key>b</Key>",
        "<Key xml:lang='en'>a</Key>",
        "<Key >a</Key >",
        "<a:Key>a</a:Key>",
        "<Key/>",
        "",
        "<Key>a</Key>text",
        "<Key>a</Key><Size>2</Size>",
        "<Key>a</Key><!-- <Key>b</Key> -->",
        "<Key>a</Key><Owner x='1'></Owner>",
        "<Key>a</Key><X><Y></X></Y>",
    ];
    for object in objects {
        assert!(
            matches!(refused(&one(&format!("{object}{tail}"))), Refusal::Unusual(_)),
            "{object}"
        );
    }
    for size in ["", "-1", "+1", " 1", "1 ", "18446744073709551616", "1.0", "&#49;"] {
        let object = format!(
            "<Key>k</Key><Size>{size}</Size><LastModified>2024-05-06T07:08:09Z</LastModified>"
        );
        assert!(matches!(refused(&one(&object)), Refusal::Unusual(_)), "{size}");
    }
    for body in [
        "\u{feff}<ListBucketResult></ListBucketResult>",
        "<!DOCTYPE a><ListBucketResult></ListBucketResult>",
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><ListBucketResult></ListBucketResult>",
        "<s:ListBucketResult xmlns:s=\"x\"></s:ListBucketResult>",
        "<ListBucketResult/>",
        "<ListBucketResult></ListBucketResult><a/>",
        "<ListBucketResult><CommonPrefixes/></ListBucketResult>",
        "<ListBucketResult><CommonPrefixes><Prefix/></CommonPrefixes></ListBucketResult>",
        "<ListBucketResult><IsTruncated>maybe</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated><IsTruncated>false</IsTruncated></ListBucketResult>",
        "<ListBucketResult></Contents></ListBucketResult>",
    ] {
        assert!(matches!(refused(body), Refusal::Unusual(_)), "{body}");
    }
}

#[test]
fn folders_of_a_level() {
    let page = scan(
        b"<ListBucketResult><CommonPrefixes><Prefix>a/&amp;b/</Prefix></CommonPrefixes>\
          <EncodingType></EncodingType><CommonPrefixes> <Owner>x</Owner><Prefix>a/c/</Prefix>\
          </CommonPrefixes></ListBucketResult>"
            .to_vec(),
    )
    .unwrap();
    assert_eq!(page.folders().collect::<Vec<_>>(), [b"a/&b/".as_slice(), b"a/c/"]);
    let encoded = "<ListBucketResult><EncodingType>url</EncodingType><CommonPrefixes><Prefix>a/%25/</Prefix></CommonPrefixes></ListBucketResult>";
    let page = scan(encoded.as_bytes().to_vec()).unwrap();
    assert_eq!(page.folders().collect::<Vec<_>>(), [b"a/%/"]);
}

#[test]
fn other_documents() {
    let error =
        "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce</Message></Error>";
    let (code, message) = ("SlowDown".to_owned(), "Reduce".to_owned());
    assert_eq!(refused(error), Refusal::ErrorDocument { code, message });
    for body in ["<html></html>", "hello", "{\"a\": 1}", "<ListAllMyBucketsResult>"] {
        assert_eq!(refused(body), Refusal::NotAListing, "{body}");
    }
}

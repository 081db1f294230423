//! The connector against the synthetic endpoint: both parsers give the same pages, and what a
//! service does wrong is an error or a retry, never a short page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::common::{Canned, store};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, path::Path,
};
use refreeze::source::page::Page;
use refreeze::source::page::PageRequest;
use refreeze::source::xml::connector::{PageConnector, PageParser};
use refreeze::source::xml::exchange::Exchange;
use refreeze::source::xml::fetch::list_page;
use refreeze_endpoint::{ArrayConfig, Config, Endpoint, Faults, ObjectConfig};

const PARSERS: [PageParser; 2] = [PageParser::Scan, PageParser::Xml];

fn endpoint(faults: Faults, keys: &[&str]) -> Endpoint {
    let array = ArrayConfig {
        prefix: "a".into(),
        grid: vec![40, 60],
        size_spread: 100,
        ..ArrayConfig::default()
    };
    let object = |key: &&str| ObjectConfig { key: (*key).to_owned(), ..ObjectConfig::default() };
    let config = Config {
        arrays: vec![array],
        objects: keys.iter().map(object).collect(),
        faults,
        ..Config::default()
    };
    Endpoint::start(config, 0, 1).unwrap()
}

fn client(endpoint: &Endpoint, parser: PageParser, max_retries: usize) -> AmazonS3 {
    let retry = RetryConfig {
        max_retries,
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(5),
            base: 2.0,
        },
        ..RetryConfig::default()
    };
    AmazonS3Builder::new()
        .with_endpoint(endpoint.url())
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_access_key_id("id")
        .with_secret_access_key("secret")
        .with_allow_http(true)
        .with_http_connector(PageConnector::new(parser))
        .with_retry(retry)
        .build()
        .unwrap()
}

fn rows(page: &Page) -> Vec<(String, u64, i64, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = page.entries.iter().enumerate();
    let row = |(i, e): (usize, &refreeze::source::page::PageEntry)| {
        (
            text(page.key(i)),
            e.size,
            e.last_modified,
            Some(page.e_tag(i)).filter(|tag| !tag.is_empty()).map(text),
        )
    };
    entries.map(row).collect()
}

#[tokio::test]
async fn both_parsers_give_the_same_pages_and_follow_tokens_and_starts() {
    let endpoint = endpoint(Faults::default(), &["a/c/1/x & <y>", "a/zarr.json", "b"]);
    let mut all = Vec::new();
    for parser in PARSERS {
        let store = client(&endpoint, parser, 0);
        let exchange = Arc::new(Exchange::default());
        let (mut rows_of, mut token) = (Vec::new(), None::<String>);
        loop {
            let query =
                PageRequest { prefix: "a", token: token.as_deref(), ..PageRequest::default() };
            let page = list_page(&store, query, &exchange).await.unwrap();
            rows_of.extend(rows(&page));
            assert_eq!(page.truncated, page.next_token.is_some());
            token = page.next_token.clone();
            if token.is_none() {
                break;
            }
        }
        assert_eq!(exchange.requests(), 3);
        assert_eq!(exchange.stock_pages(), if parser == PageParser::Xml { 3 } else { 0 });
        assert_eq!(rows_of.len(), 2402);
        let start = Some("a/c/39/5");
        let query = PageRequest {
            prefix: "a/c/",
            start_after: start,
            max_keys: 3,
            ..PageRequest::default()
        };
        let page = list_page(&store, query, &exchange).await.unwrap();
        let (first, last) = page.ends().unwrap();
        assert_eq!((first, last), (&b"a/c/39/50"[..], &b"a/c/39/52"[..]));
        assert!(page.truncated);
        all.push(rows_of);
    }
    assert_eq!(all[0], all[1]);
    assert!(all[0].iter().any(|row| row.0 == "a/c/1/x & <y>"));
}

#[tokio::test]
async fn keys_that_paths_cannot_hold() {
    let odd = ["k//double", "k/marker/", "k/new\nline", "k/x%2Fy+z"];
    let endpoint = endpoint(Faults::default(), &odd);
    let exchange = Arc::new(Exchange::default());
    let query = PageRequest { prefix: "k/", ..PageRequest::default() };
    let page = list_page(&client(&endpoint, PageParser::Scan, 0), query, &exchange).await.unwrap();
    let keys: Vec<_> = rows(&page).into_iter().map(|row| row.0).collect();
    assert_eq!(keys, odd);
    let refused = list_page(&client(&endpoint, PageParser::Xml, 0), query, &exchange).await;
    assert!(format!("{:?}", refused.unwrap_err()).contains("slash"));
}

#[tokio::test]
async fn keys_that_are_not_utf8() {
    let endpoint = endpoint(Faults::default(), &["k/a"]);
    let address = endpoint.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "PUT /bucket/k/%FF HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let exchange = Arc::new(Exchange::default());
    let query = PageRequest { prefix: "k/", ..PageRequest::default() };
    let store = client(&endpoint, PageParser::Scan, 0);
    let page = list_page(&store, query, &exchange).await.unwrap();
    assert_eq!((page.key(0), page.key(1)), (&b"k/a"[..], &b"k/\xFF"[..]));
    let store = client(&endpoint, PageParser::Xml, 0);
    assert!(list_page(&store, query, &exchange).await.is_err());
}

#[tokio::test]
async fn what_can_be_repeated_is_repeated() {
    let strikes = [
        Faults { cut_body: 1.0, ..Faults::default() },
        Faults { truncate_xml: 1.0, ..Faults::default() },
        Faults { error_body: 1.0, ..Faults::default() },
        Faults { internal_error: 1.0, ..Faults::default() },
        Faults { slow_down: 1.0, ..Faults::default() },
        Faults { cut_connection: 1.0, ..Faults::default() },
    ];
    for faults in strikes {
        for parser in PARSERS {
            let endpoint = endpoint(Faults { limit: Some(2), ..faults.clone() }, &[]);
            let query = PageRequest { prefix: "a/", ..PageRequest::default() };
            let exchange = Arc::new(Exchange::default());
            let page = list_page(&client(&endpoint, parser, 5), query, &exchange).await.unwrap();
            assert_eq!(page.len(), 1000, "{faults:?}");
            assert_eq!(exchange.requests(), 3, "{faults:?}");
            assert_eq!(exchange.throttled(), if faults.slow_down > 0.0 { 2 } else { 0 });
            endpoint.set(|s| s.faults.limit = None);
            let failed = list_page(&client(&endpoint, parser, 1), query, &exchange).await;
            assert!(failed.is_err(), "{faults:?} became a page");
        }
    }
}

#[tokio::test]
async fn other_requests_pass_through() {
    let endpoint = endpoint(Faults::default(), &["a/zarr.json"]);
    let store = client(&endpoint, PageParser::Scan, 0);
    let listed: Vec<_> = store.list(Some(&Path::from("a"))).try_collect().await.unwrap();
    assert_eq!(listed.len(), 2401);
    let level = store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
    assert_eq!((level.objects.len(), level.common_prefixes.len()), (1, 1));
    let path = Path::from("a/new");
    store.put(&path, "hello".into()).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_store_without_the_connector_gives_pages_too() {
    let endpoint = endpoint(Faults::default(), &[]);
    let store = AmazonS3Builder::new()
        .with_endpoint(endpoint.url())
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_skip_signature(true)
        .with_allow_http(true)
        .build()
        .unwrap();
    let exchange = Arc::new(Exchange::default());
    let query = PageRequest { prefix: "a/", ..PageRequest::default() };
    let page = list_page(&store, query, &exchange).await.unwrap();
    assert_eq!((page.len(), page.truncated, exchange.requests()), (1000, true, 0));
}

async fn canned(body: &[u8], parser: PageParser, limit: usize) -> Result<Page, String> {
    let canned = Canned::default();
    body.clone_into(&mut canned.0.lock().unwrap());
    let connector = PageConnector::over(canned, parser).with_max_body(limit);
    let store = store(connector, "http://127.0.0.1:1");
    let page = list_page(&store, PageRequest::default(), &Arc::new(Exchange::default())).await;
    page.map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn what_is_no_page_is_an_error_in_both_settings() {
    let cases: [(&[u8], &str); 8] = [
        (b"<html><body>log in</body></html>", "NotAListing"),
        (b"{}", "NotAListing"),
        (b"", "Incomplete"),
        (
            b"<?xml version=\"1.0\"?>\n<ListBucketResult><IsTruncated>false</IsTruncated>",
            "Incomplete",
        ),
        (b"<!-- c --><ListBucketResult><Contents>", "Incomplete"),
        (b"<!-- c --><html></html>", "NotAListing"),
        (b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>", "403"),
        (b"<Error><Code>InternalError</Code><Message>\xFF</Message></Error>", "500"),
    ];
    for (body, text) in cases {
        for parser in PARSERS {
            let got = canned(body, parser, 1000).await;
            let error = got.expect_err(&String::from_utf8_lossy(body));
            assert!(error.contains(text), "{parser:?} {error}");
        }
    }
    let body = b"<ListBucketResult><Name>0123456789</Name></ListBucketResult>";
    assert!(canned(body, PageParser::Scan, 60).await.unwrap().is_empty());
    assert!(canned(body, PageParser::Scan, 59).await.unwrap_err().contains("more than 59 bytes"));
}

#[tokio::test]
async fn flags_that_the_stock_parser_does_not_tell() {
    let truncated = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let encoded = b"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%2Fb+%C3%A9</Key><Size>1</Size><LastModified>2024-05-06T07:08:09Z</LastModified></Contents></ListBucketResult>";
    let empty_token = b"<ListBucketResult><NextContinuationToken></NextContinuationToken><IsTruncated>false</IsTruncated></ListBucketResult>";
    for parser in PARSERS {
        assert!(canned(truncated, parser, 1000).await.unwrap().truncated);
        let page = canned(encoded, parser, 1000).await.unwrap();
        assert_eq!(page.key(0), "a/b é".as_bytes());
        assert_eq!(page.e_tag(0), b"");
        let page = canned(empty_token, parser, 1000).await.unwrap();
        assert_eq!((page.truncated, page.next_token.as_deref()), (false, None));
    }
}

#[test]
fn names_of_parsers() {
    assert_eq!("xml".parse(), Ok(PageParser::Xml));
    assert_eq!("".parse(), Ok(PageParser::Scan));
    assert!("sax".parse::<PageParser>().is_err());
}

/// Answers at once with the head of an empty page, whose body comes a little later.
#[derive(Debug, Clone)]
struct Late;

#[async_trait]
impl HttpService for Late {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        let body = async {
            tokio::task::yield_now().await;
            let page = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
            Ok(Frame::data(Bytes::from(page)))
        };
        let body = StreamBody::new(Box::pin(futures::stream::once(body)));
        Ok(HttpResponse::new(HttpResponseBody::new(body)))
    }
}

impl HttpConnector for Late {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[tokio::test]
async fn exchanges_tell_how_many_answers_waited_to_be_read() {
    let store = store(PageConnector::over(Late, PageParser::Scan), "http://127.0.0.1:1");
    let waiting = || async {
        let exchange = Arc::new(Exchange::default());
        list_page(&store, PageRequest::default(), &exchange).await.unwrap();
        exchange.waiting()
    };
    for _ in 0..2 {
        assert_eq!(waiting().await, 0);
        // 64 are read at a time.
        let mut all = futures::future::join_all((0..84).map(|_| waiting())).await;
        all.sort_unstable();
        assert!(all[..64].iter().all(|waiting| *waiting == 0), "{all:?}");
        assert_eq!(all[64..], (0..20).collect::<Vec<_>>());
    }
}

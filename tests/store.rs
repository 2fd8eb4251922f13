//! `lwnflog export --parquet s3://…`: what a store has is what a directory has, once; what it refuses is said,
//! and stored when it is asked again. The store here knows as much of S3 as whole objects take; `docs/FLEET.md`
//! says which other was tried.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use common::made::{File, ip};
use common::{LWNFLOG, output, temp_dir};

/// Objects by their paths.
#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Pieces of uploads that are neither ended nor given up.
    pieces: Mutex<BTreeMap<String, Vec<u8>>>,
    refuses: AtomicBool,
    refuses_pieces: AtomicBool,
    /// What is answered to everything, whatever is asked.
    page: Mutex<Option<&'static str>>,
    /// Nothing is.
    is_silent: AtomicBool,
}

impl Store {
    /// Serves it at this address, as long as the test lasts.
    fn serve() -> (Arc<Store>, String) {
        let store = Arc::new(Store::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::clone(&store);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = Arc::clone(&served);
                thread::spawn(move || store.answer_all(&stream));
            }
        });
        (store, address)
    }

    fn answer_all(&self, stream: &TcpStream) {
        let mut requests = BufReader::new(stream);
        loop {
            let (mut line, mut bytes) = (String::new(), 0);
            if requests.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let mut words = line.split(' ');
            let (method, path) = (
                words.next().unwrap().to_owned(),
                words.next().unwrap().to_owned(),
            );
            loop {
                let mut header = String::new();
                requests.read_line(&mut header).unwrap();
                let header = header.trim_end().to_ascii_lowercase();
                if let Some(length) = header.strip_prefix("content-length: ") {
                    bytes = length.parse().unwrap();
                }
                if header.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; bytes];
            requests.read_exact(&mut body).unwrap();
            if self.is_silent.load(Ordering::Relaxed) {
                thread::park();
            }
            let (status, answer) = self.answer(&method, &path, body);
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"x\"\r\nLast-Modified: Fri, 27 Nov 2026 12:00:00 GMT\r\n\
                 Content-Length: {}\r\n\r\n",
                answer.len()
            );
            let mut stream = stream;
            if stream
                .write_all(&[head.as_bytes(), &answer].concat())
                .is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, method: &str, path: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
        if let Some(page) = *self.page.lock().unwrap() {
            return ("200 OK", page.into());
        }
        let refused = || {
            let why = b"<Error><Code>QuotaExceeded</Code></Error>";
            ("403 Forbidden", why.to_vec())
        };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (mut objects, mut pieces) = (self.objects.lock().unwrap(), self.pieces.lock().unwrap());
        let done = |answer: &str| ("200 OK", answer.as_bytes().to_vec());
        match method {
            "PUT" if self.refuses.load(Ordering::Relaxed) => refused(),
            "PUT" if query.contains("partNumber=") => {
                if self.refuses_pieces.load(Ordering::Relaxed) {
                    return refused();
                }
                let number = query.split("partNumber=").nth(1).unwrap();
                let number: u32 = number.split('&').next().unwrap().parse().unwrap();
                pieces.insert(format!("{path} {number:05}"), body);
                done("")
            }
            "PUT" => {
                objects.insert(path.to_owned(), body);
                done("")
            }
            "POST" if query.starts_with("uploads") => done(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>7</UploadId></InitiateMultipartUploadResult>",
            ),
            "POST" if query.starts_with("delete") => {
                let body = String::from_utf8(body).unwrap();
                for key in body.split("<Key>").skip(1) {
                    let key = key.split("</Key>").next().unwrap();
                    objects.remove(&format!("{path}/{key}"));
                }
                done("<DeleteResult></DeleteResult>")
            }
            "POST" => {
                let all = pieces.iter().filter(|(name, _)| name.starts_with(path));
                let all: Vec<_> = all.flat_map(|(_, piece)| piece).copied().collect();
                objects.insert(path.to_owned(), all);
                pieces.clear();
                done(
                    "<CompleteMultipartUploadResult><Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>x</ETag></CompleteMultipartUploadResult>",
                )
            }
            "DELETE" if query.contains("uploadId=") => {
                pieces.retain(|name, _| !name.starts_with(path));
                ("204 No Content", Vec::new())
            }
            _ if query.contains("list-type=2") => {
                let prefix = query.split("prefix=").nth(1).unwrap();
                let prefix = prefix.split('&').next().unwrap().replace("%2F", "/");
                let under = |name: &&String| name.starts_with(&format!("{path}/{prefix}"));
                let all = objects.keys().filter(under).map(|name| {
                    let time = if name.contains("today") { 2099 } else { 2020 };
                    let key = name.strip_prefix(path).unwrap().trim_start_matches('/');
                    format!(
                        "<Contents><Key>{key}</Key><LastModified>{time}-01-01T00:00:00.000Z</LastModified><ETag>x</ETag><Size>1</Size></Contents>"
                    )
                });
                let all: String = all.collect();
                done(&format!(
                    "<ListBucketResult><IsTruncated>false</IsTruncated>{all}</ListBucketResult>"
                ))
            }
            _ => match objects.get(path) {
                Some(object) => ("200 OK", object.clone()),
                None => ("404 Not Found", Vec::new()),
            },
        }
    }

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects.lock().unwrap().clone()
    }
}

fn export(file: &Path, to: &str, address: &str) -> (Output, String) {
    let told = output(&mut command(file, to, address), "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    (told, said)
}

fn command(file: &Path, to: &str, address: &str) -> Command {
    let mut command = Command::new(LWNFLOG);
    command
        .args(["export", "--host", "fw1", "--payload", "1400"])
        .args(["--parquet", to])
        .arg(file)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "nowhere")
        .env("AWS_ENDPOINT", address)
        .env("AWS_ALLOW_HTTP", "true");
    command
}

#[test]
fn a_store_has_what_a_directory_has_and_once() {
    let (dir, (store, address)) = (temp_dir(), Store::serve());
    let file = dir.path().join("some.pcapng");
    let mut made = File::new();
    for number in 0..3_000_u64 {
        let packet = ip(
            [192, 0, 2, 1],
            [198, 51, 100, 1],
            47,
            0,
            &number.to_be_bytes(),
        );
        made.packet(number * 2_000, &packet, 0);
    }
    fs::write(&file, made.0).unwrap();

    store.refuses.store(true, Ordering::Relaxed);
    let (told, said) = export(&file, "s3://bucket/fleet/", &address);
    assert!(!told.status.success());
    assert!(said.contains("not exported: s3://bucket/fleet/"), "{said}");
    assert!(said.contains("QuotaExceeded"), "{said}");
    assert_eq!(store.objects(), BTreeMap::new());

    store.refuses.store(false, Ordering::Relaxed);
    let (told, said) = export(&file, "s3://bucket/fleet/", &address);
    assert!(told.status.success(), "{said}");
    assert!(
        said.contains("1 files exported, 0 before: 3,000 packets"),
        "{said}"
    );
    let stored = store.objects();
    let (told, said) = export(&file, "S3://bucket/fleet", &address);
    assert!(told.status.success(), "{said}");
    assert!(said.contains("0 files exported, 1 before"), "{said}");
    assert_eq!(store.objects(), stored);

    let here = dir.path().join("out");
    let (told, said) = export(&file, here.to_str().unwrap(), &address);
    assert!(told.status.success(), "{said}");
    assert!(stored.len() >= 4, "two hours, a table of losses, a mark");
    for (path, bytes) in stored {
        let part = path
            .strip_prefix("/bucket/fleet/")
            .unwrap()
            .replace("%3D", "=");
        assert!(fs::read(here.join(&part)).unwrap() == bytes, "{part}");
    }
}

#[test]
fn what_is_no_bucket_is_said() {
    let dir = temp_dir();
    let file = dir.path().join("some.pcapng");
    fs::write(&file, File::new().0).unwrap();
    let (told, said) = export(&file, "s3:///fleet", "http://127.0.0.1:9");
    assert!(!told.status.success());
    assert!(said.contains("s3:///fleet"), "{said}");
}

/// A capture whose part is longer than what is put at once.
fn long(path: &Path) {
    let mut made = File::new();
    let mut random = 1_u64;
    for number in 0..13_000_u64 {
        let noise = std::iter::repeat_with(|| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        });
        let noise: Vec<u8> = noise.take(170).flatten().collect();
        made.packet(
            number / 10,
            &ip([192, 0, 2, 1], [198, 51, 100, 1], 47, 0, &noise),
            0,
        );
    }
    fs::write(path, made.0).unwrap();
}

#[test]
fn what_is_put_in_pieces_is_whole_or_given_up() {
    let (dir, (store, address)) = (temp_dir(), Store::serve());
    let file = dir.path().join("long.pcapng");
    long(&file);
    store.refuses_pieces.store(true, Ordering::Relaxed);
    let (told, said) = export(&file, "s3://bucket/fleet", &address);
    assert!(!told.status.success());
    assert!(said.contains("QuotaExceeded"), "{said}");
    assert_eq!(store.objects(), BTreeMap::new(), "neither parts nor notes");
    assert!(store.pieces.lock().unwrap().is_empty());

    store.refuses_pieces.store(false, Ordering::Relaxed);
    // One that was killed long ago, one that may go on, and another host's.
    let notes = ["fw1/killed", "fw1/today", "fw2/theirs"];
    for note in notes {
        let part = format!("packets/{note}.parquet");
        let path = format!("/bucket/fleet/_uploading/{note}");
        let mut objects = store.objects.lock().unwrap();
        objects.insert(path, format!("7\n{part}").into_bytes());
        let piece = format!("/bucket/fleet/{part} 00001");
        store.pieces.lock().unwrap().insert(piece, vec![1]);
    }
    let small = dir.path().join("small.pcapng");
    fs::write(&small, File::new().0).unwrap();
    let (told, said) = export(&small, "s3://bucket/fleet", &address);
    assert!(told.status.success(), "{said}");
    let left: Vec<_> = store.objects().into_keys().collect();
    assert_eq!(
        left,
        [
            "/bucket/fleet/_uploading/fw1/today",
            "/bucket/fleet/_uploading/fw2/theirs"
        ]
    );
    let left: Vec<_> = store.pieces.lock().unwrap().keys().cloned().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    store.objects.lock().unwrap().clear();

    let (told, said) = export(&file, "s3://bucket/fleet", &address);
    assert!(told.status.success(), "{said}");
    let here = dir.path().join("out");
    let (told, _) = export(&file, here.to_str().unwrap(), &address);
    assert!(told.status.success());
    let stored = store.objects();
    assert_eq!(stored.len(), 3, "{:?}", stored.keys());
    for (path, bytes) in stored {
        let part = path.strip_prefix("/bucket/fleet/").unwrap();
        let same = fs::read(here.join(part.replace("%3D", "="))).unwrap() == bytes;
        assert!(same, "{part}");
    }
}

#[test]
fn a_page_in_the_stores_place_is_no_mark() {
    let (dir, (store, address)) = (temp_dir(), Store::serve());
    let file = dir.path().join("g5-000001-20251127T140000Z.pcapng");
    let mut made = File::new();
    let packet = ip([192, 0, 2, 1], [198, 51, 100, 1], 47, 0, b"12345678");
    made.packet(0, &packet, 0);
    fs::write(&file, made.0).unwrap();
    *store.page.lock().unwrap() = Some("<html>Please log in to this network</html>");
    let (told, said) = export(&file, "s3://bucket/fleet", &address);
    assert_eq!(told.status.code(), Some(1), "{said}");
    assert!(said.contains("0 files exported, 0 before"), "{said}");
    assert!(said.contains("is it the store that answers?"), "{said}");
}

#[test]
fn a_store_that_does_not_answer_is_told() {
    let (dir, (store, address)) = (temp_dir(), Store::serve());
    let file = dir.path().join("some.pcapng");
    let mut made = File::new();
    let packet = ip([192, 0, 2, 1], [198, 51, 100, 1], 47, 0, b"12345678");
    made.packet(0, &packet, 0);
    fs::write(&file, made.0).unwrap();
    store.is_silent.store(true, Ordering::Relaxed);
    let mut command = command(&file, "s3://bucket/fleet", &address);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut line).unwrap();
    let _ = child.kill();
    child.wait().unwrap();
    assert!(
        line.contains("s3://bucket/fleet: still waiting for an answer"),
        "{line}"
    );
}

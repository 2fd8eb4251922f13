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
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use common::made::{File, ip};
use common::{LWNFLOG, output, temp_dir};

/// Objects by their paths.
#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    refuses: AtomicBool,
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
            let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
            let put = method == "PUT";
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
            let mut objects = self.objects.lock().unwrap();
            let (status, answer) = if put && self.refuses.load(Ordering::Relaxed) {
                (
                    "403 Forbidden",
                    b"<Error><Code>QuotaExceeded</Code></Error>".to_vec(),
                )
            } else if put {
                objects.insert(path, body);
                ("200 OK", Vec::new())
            } else if let Some(object) = objects.get(&path) {
                ("200 OK", object.clone())
            } else {
                ("404 Not Found", Vec::new())
            };
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

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects.lock().unwrap().clone()
    }
}

fn export(file: &Path, to: &str, address: &str) -> (Output, String) {
    let mut command = Command::new(LWNFLOG);
    command
        .args(["export", "--host", "fw1", "--parquet", to])
        .arg(file)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "nowhere")
        .env("AWS_ENDPOINT", address)
        .env("AWS_ALLOW_HTTP", "true");
    let told = output(&mut command, "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    (told, said)
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
    let (told, said) = export(&file, "s3://bucket/fleet", &address);
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

//! A bucket of an S3-compatible store, by the crate of the Apache Arrow project.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use tokio::runtime::{Builder, Runtime};

/// What is put at a time; larger parts are put in several pieces.
const PIECE_BYTES: usize = 16 << 20;
/// Pieces that are on their way at once.
const PIECES: usize = 4;

/// A bucket, or what begins with a prefix there.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    url: String,
    prefix: Path,
    runtime: Runtime,
}

impl Bucket {
    /// `s3://BUCKET/PREFIX`; who asks, where and how, the environment says (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP` and others).
    ///
    /// # Errors
    /// What of that makes no sense.
    pub(super) fn of(url: &str) -> io::Result<Bucket> {
        // Another one may be there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::from_env().with_url(url).build()?;
        let prefix = url.splitn(4, '/').nth(3).unwrap_or_default();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Bucket {
            store,
            url: url.trim_end_matches('/').to_owned(),
            prefix: Path::parse(prefix.trim_end_matches('/')).map_err(io::Error::other)?,
            runtime,
        })
    }

    pub(super) fn name(&self, part: &str) -> PathBuf {
        format!("{}/{part}", self.url).into()
    }

    /// The object is there once all of it is.
    pub(super) fn put_file(&self, part: &str, mut file: File) -> io::Result<()> {
        file.rewind()?;
        let place = self.place(part)?;
        let mut piece = self.piece(&mut file)?;
        self.runtime.block_on(async {
            if piece.len() < PIECE_BYTES {
                self.store.put(&place, piece.into()).await?;
                return Ok(());
            }
            let upload = self.store.put_multipart(&place).await?;
            let mut pieces = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
            while !piece.is_empty() {
                pieces.wait_for_capacity(PIECES).await?;
                pieces.put(piece.into());
                piece = match self.piece(&mut file) {
                    Ok(piece) => piece,
                    Err(error) => {
                        pieces.abort().await?;
                        return Err(error);
                    }
                };
            }
            pieces.finish().await?;
            Ok(())
        })
    }

    pub(super) fn text(&self, name: &str) -> io::Result<Option<String>> {
        let place = self.place(name)?;
        let read = self
            .runtime
            .block_on(async { self.store.get(&place).await?.bytes().await });
        match read {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn place(&self, part: &str) -> io::Result<Path> {
        let part = Path::parse(part).map_err(io::Error::other)?;
        Ok(self.prefix.parts().chain(part.parts()).collect())
    }

    /// What comes next of a file.
    fn piece(&self, file: &mut File) -> io::Result<Vec<u8>> {
        let mut piece = Vec::new();
        file.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        Ok(piece)
    }
}

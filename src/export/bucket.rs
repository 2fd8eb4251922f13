//! A bucket of an S3-compatible store, by the crate of the Apache Arrow project.
//!
//! An upload in pieces is noted while it lasts (`_uploading/HOST/PART`: its id and the part), so that what one
//! that was killed has left can be given up by a later export.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// What is put at a time; larger parts are put in several pieces.
const PIECE_BYTES: usize = 16 << 20;
/// Pieces that are on their way at once.
const PIECES: usize = 4;
/// When it is said that a store does not answer, and when it is not asked again.
const SILENCE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// An upload that was begun so long ago was killed.
const UPLOAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A bucket, or what begins with a prefix there.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    url: String,
    prefix: Path,
    runtime: Runtime,
    tell: fn(&str),
    /// That it does not answer was said.
    told: AtomicBool,
}

impl Bucket {
    /// `s3://BUCKET/PREFIX`; who asks, where and how, the environment says (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP` and others).
    ///
    /// # Errors
    /// What of that makes no sense.
    pub(super) fn of(url: &str, tell: fn(&str)) -> io::Result<Bucket> {
        // Another one may be there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            retry_timeout: PATIENCE,
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::from_env()
            .with_url(url)
            .with_retry(retry)
            .build()?;
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
            tell,
            told: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self, part: &str) -> PathBuf {
        format!("{}/{part}", self.url).into()
    }

    /// Waits for an answer, and says so where it takes long.
    fn wait<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.runtime.block_on(async {
            tokio::pin!(answer);
            if let Ok(answer) = tokio::time::timeout(SILENCE, &mut answer).await {
                self.told.store(false, Ordering::Relaxed);
                return answer;
            }
            if !self.told.swap(true, Ordering::Relaxed) {
                (self.tell)(&format!(
                    "{}: still waiting for an answer after {} s; it is not asked again after {} s",
                    self.url,
                    SILENCE.as_secs(),
                    PATIENCE.as_secs()
                ));
            }
            answer.await
        })
    }

    /// The object is there once all of it is.
    pub(super) fn put_file(&self, part: &str, mut file: File) -> io::Result<()> {
        file.rewind()?;
        let place = self.place(part)?;
        let piece = piece(&mut file)?;
        if piece.len() < PIECE_BYTES {
            self.wait(self.store.put(&place, piece.into()))?;
            return Ok(());
        }
        let id = self.wait(self.store.create_multipart(&place))?;
        let note = self.place(&note(part))?;
        let noted = format!("{id}\n{part}");
        let done = self
            .wait(self.store.put(&note, noted.into_bytes().into()))
            .map_err(io::Error::from)
            .and_then(|_| self.put_pieces(&place, &id, piece, &mut file));
        // What cannot be given up now is by a later export, as the note says.
        if done.is_ok() || self.wait(self.store.abort_multipart(&place, &id)).is_ok() {
            let _ = self.wait(self.store.delete(&note));
        }
        done
    }

    fn put_pieces(
        &self,
        place: &Path,
        id: &String,
        mut piece: Vec<u8>,
        file: &mut File,
    ) -> io::Result<()> {
        let (mut pieces, mut on_their_way) = (Vec::new(), JoinSet::new());
        while !piece.is_empty() {
            let (store, place, id) = (self.store.clone(), place.clone(), id.clone());
            let number = pieces.len();
            pieces.push(None);
            let put = async move {
                let put = store.put_part(&place, &id, number, piece.into()).await;
                put.map(|done| (number, done))
            };
            on_their_way.spawn_on(put, self.runtime.handle());
            piece = self::piece(file)?;
            while on_their_way.len() == PIECES || piece.is_empty() {
                let Some(done) = self.wait(next(&mut on_their_way))? else {
                    break;
                };
                pieces[done.0] = Some(done.1);
            }
        }
        let pieces = pieces.into_iter().flatten().collect();
        self.wait(self.store.complete_multipart(place, id, pieces))?;
        Ok(())
    }

    /// Gives up this host's uploads that were killed a day ago or before. Where a store lets nobody look for them
    /// they stay.
    pub(super) fn end_old_uploads(&self, host: &str) {
        let ended = self.try_end_old_uploads(host);
        if let Err(error) = ended
            && !matches!(
                error,
                object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
                    | object_store::Error::NotFound { .. }
            )
        {
            (self.tell)(&format!(
                "{}: not looked for what killed uploads have left: {error}",
                self.url
            ));
        }
    }

    fn try_end_old_uploads(&self, host: &str) -> object_store::Result<()> {
        let Ok(notes) = self.place(&format!("_uploading/{host}")) else {
            return Ok(());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let old = now.unwrap_or_default().saturating_sub(UPLOAD_MAX).as_secs();
        let listed = self.wait(self.store.list_with_delimiter(Some(&notes)))?;
        for note in listed.objects {
            let begun = u64::try_from(note.last_modified.timestamp()).unwrap_or(0);
            if begun > old {
                continue;
            }
            let text = self.wait(async { self.store.get(&note.location).await?.bytes().await })?;
            let text = String::from_utf8_lossy(&text);
            if let Some((id, part)) = text.split_once('\n')
                && let Ok(place) = self.place(part)
            {
                match self.wait(self.store.abort_multipart(&place, &id.to_owned())) {
                    Err(object_store::Error::NotFound { .. }) => {}
                    ended => ended?,
                }
                self.wait(self.store.delete(&note.location))?;
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, name: &str) -> io::Result<Option<String>> {
        let place = self.place(name)?;
        let read = self.wait(async { self.store.get(&place).await?.bytes().await });
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
}

/// A piece that is done; `None` where none is on its way.
async fn next(
    on_their_way: &mut JoinSet<object_store::Result<(usize, PartId)>>,
) -> io::Result<Option<(usize, PartId)>> {
    match on_their_way.join_next().await {
        None => Ok(None),
        Some(done) => Ok(Some(done.map_err(io::Error::other)??)),
    }
}

/// Where the upload of a part is noted.
fn note(part: &str) -> String {
    let host = part.split('/').find_map(|name| name.strip_prefix("host="));
    format!(
        "_uploading/{}/{}",
        host.unwrap_or("_"),
        part.replace(['/', '='], "_")
    )
}

/// What comes next of a file.
fn piece(file: &mut File) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    file.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

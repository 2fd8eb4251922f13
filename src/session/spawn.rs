//! The capturing threads: which source and which sink each has.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use super::files::{file_snaplen, pcapng};
use super::open::Opened;
use super::settings::{FileFormat, Settings};
use super::{OnEnd, Running, Session};
use crate::account::Account;
use crate::account::unseen::Unseen;
use crate::capture::{Capture, Discard, FileSink, Outcome, Sink, StreamSink};
use crate::format::pcap::Pcap;
use crate::ring::Ring;
use crate::source::{Source, SourceName};

impl Session {
    pub(super) fn spawn(
        &self,
        name: SourceName,
        source: Opened,
        ring: Option<Ring>,
        gate: Receiver<()>,
    ) -> io::Result<Running> {
        let account = Arc::new(Account::default());
        let published = Arc::clone(&account);
        let mut socket = None;
        let (thread, granted_buffer_bytes, queue_status) = match source {
            Opened::Group(group) => {
                let granted = group.granted_buffer_bytes();
                socket = group.socket().ok();
                (
                    self.spawn_thread(name, group, ring, published, gate)?,
                    granted,
                    None,
                )
            }
            Opened::Queue(queue) => {
                let (granted, status) = (queue.granted_buffer_bytes(), queue.last_status());
                socket = queue.socket().ok();
                (
                    self.spawn_thread(name, queue, ring, published, gate)?,
                    granted,
                    Some(status),
                )
            }
            Opened::Hook(hook) => {
                let granted = hook.buffer_bytes();
                (
                    self.spawn_thread(name, *hook, ring, published, gate)?,
                    granted,
                    None,
                )
            }
        };
        Ok(Running {
            name,
            account,
            thread,
            granted_buffer_bytes,
            queue_status,
            socket,
            unseen: Unseen::default(),
        })
    }

    fn spawn_thread<S: Source + Send + 'static>(
        &self,
        name: SourceName,
        source: S,
        ring: Option<Ring>,
        account: Arc<Account>,
        gate: Receiver<()>,
    ) -> io::Result<JoinHandle<Option<Outcome>>> {
        let (file_name, resolution) = (name.file_name(), source.resolution());
        let Some((ring, output)) = ring.zip(self.settings.output.as_ref()) else {
            return self.spawn_without_files(name, source, account, gate);
        };
        let (link, snaplen) = (self.settings.link, self.settings.snaplen);
        let family = self.settings.family;
        match output.format {
            FileFormat::PcapNg => {
                let format = pcapng(&self.settings, name).with_resolution(resolution);
                let sink = FileSink::new(format, ring, link, snaplen).with_family(family);
                self.spawn_capture(&file_name, source, sink, account, gate)
            }
            FileFormat::Pcap => {
                let format =
                    Pcap::new(link, file_snaplen(&self.settings)).with_resolution(resolution);
                let sink = FileSink::new(format, ring, link, snaplen).with_family(family);
                self.spawn_capture(&file_name, source, sink, account, gate)
            }
        }
    }

    /// One whose packets go to a stream, or are counted and thrown away.
    fn spawn_without_files<S: Source + Send + 'static>(
        &self,
        name: SourceName,
        source: S,
        account: Arc<Account>,
        gate: Receiver<()>,
    ) -> io::Result<JoinHandle<Option<Outcome>>> {
        let (file_name, resolution) = (name.file_name(), source.resolution());
        let Settings {
            link,
            snaplen,
            family,
            ..
        } = self.settings;
        let Some(stream) = &self.settings.stream else {
            return self.spawn_capture(&file_name, source, Discard, account, gate);
        };
        let to = match &stream.file {
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            Some(path) => private_file(path)?,
        };
        let control = Arc::clone(&self.control);
        match stream.format {
            FileFormat::PcapNg => {
                let format = pcapng(&self.settings, name).with_resolution(resolution);
                let sink = StreamSink::new(format, link, snaplen, family, to, control)?;
                self.spawn_capture(&file_name, source, sink, account, gate)
            }
            FileFormat::Pcap => {
                let format =
                    Pcap::new(link, file_snaplen(&self.settings)).with_resolution(resolution);
                let sink = StreamSink::new(format, link, snaplen, family, to, control)?;
                self.spawn_capture(&file_name, source, sink, account, gate)
            }
        }
    }

    /// A thread that captures once `gate` is opened. Where it is closed instead, the start has
    /// failed.
    fn spawn_capture<S, K>(
        &self,
        name: &str,
        source: S,
        sink: K,
        account: Arc<Account>,
        gate: Receiver<()>,
    ) -> io::Result<JoinHandle<Option<Outcome>>>
    where
        S: Source + Send + 'static,
        K: Sink + Send + 'static,
    {
        let capture = Capture::new(source, sink, Arc::clone(&self.control), account);
        let wake = Arc::clone(&self.wake);
        thread::Builder::new()
            .name(format!("capture-{name}"))
            .spawn(move || {
                let _told = OnEnd(wake);
                gate.recv().is_ok().then(|| capture.run())
            })
    }
}

/// A file that its owner reads and nobody else; what it held is gone.
fn private_file(path: &Path) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

//! Brings what a command names in `uris` into its sandbox (`docs/fetcher.md`,
//! `src/launcher/fetcher.cpp`).
//!
//! Each job runs on a thread of its own that has become the task's user: a task must not fetch what
//! its user may not read, nor write through a link to where its user may not write, and what it
//! fetches belongs to its user. Downloads are awaited on that thread too, so all their file writes
//! have that identity.
//!
//! `cache` is accepted and ignored: every fetch goes to the source. Absent: FTP and HDFS.

mod extract;
pub mod http;
mod identity;
mod uri;

use self::http::{HttpClient, HttpError};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};
use tepui_containers::plan::Identity;
use tepui_protocol::v1::command_info::Uri;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::timeout,
};
use uri::Source;

/// What all fetches have in common.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Where relative paths start (`--frameworks_home`).
    pub frameworks_home: Option<PathBuf>,
    /// How long a download may stand still (`--fetcher_stall_timeout`).
    pub stall_timeout: Duration,
    /// Most bytes that one job may write, extracted files included; `None`: what the disk holds.
    pub bytes_max: Option<u64>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            frameworks_home: None,
            stall_timeout: Duration::from_secs(60),
            bytes_max: None,
        }
    }
}

/// What one container wants.
#[derive(Debug, Clone)]
pub struct FetchJob {
    /// In this order; the first failure ends the job.
    pub uris: Vec<Uri>,
    /// Where it goes.
    pub sandbox: PathBuf,
    /// Who fetches; `None`: this process.
    pub user: Option<Identity>,
}

/// A URI that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("Failed to fetch '{uri}': {cause}")]
pub struct FetchError {
    /// Which one.
    pub uri: String,
    /// Why.
    #[source]
    pub cause: FetchCause,
}

/// Why a URI could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchCause {
    /// It does not say what to fetch.
    #[error("malformed URI")]
    Malformed,
    /// Nothing here speaks this protocol.
    #[error("URI scheme '{0}' is not supported")]
    Scheme(String),
    /// A relative path, and no `--frameworks_home`.
    #[error("a relative path needs --frameworks_home")]
    Relative,
    /// `file://` with a relative path.
    #[error("a file URI needs an absolute path")]
    RelativeFile,
    /// `output_file` leads out of the sandbox, or is empty.
    #[error("output file '{0}' is not within the sandbox")]
    OutputFile(String),
    /// The server's answer, or none.
    #[error("error downloading resource: {0}")]
    Http(#[from] HttpError),
    /// The server refused.
    #[error("error downloading resource, received HTTP return code {0}")]
    Status(u16),
    /// Nothing came for too long.
    #[error("error downloading resource: nothing received for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The connection broke.
    #[error("error downloading resource: {0}")]
    Body(#[source] hyper::Error),
    /// Directories are not copied.
    #[error("'{}' is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// An entry of an archive leads out of the sandbox.
    #[error("archive entry '{0}' leads out of the sandbox")]
    Escape(String),
    /// The archive is none.
    #[error("failed to extract: {0}")]
    Archive(#[source] io::Error),
    /// More than one job may write.
    #[error("more than {0} bytes")]
    TooMuch(u64),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread could not become the user, or could not be started.
    #[error("cannot act as the task's user: {0}")]
    User(#[source] io::Error),
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
}

/// Fetches for all containers of a node. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    options: Arc<FetchOptions>,
    client: HttpClient,
}

impl Fetcher {
    /// With these options.
    pub fn new(options: FetchOptions, client: HttpClient) -> Self {
        Self {
            options: Arc::new(options),
            client,
        }
    }

    /// Fetches everything, or says what went wrong first. Setting `cancel` ends it soon.
    pub async fn fetch(
        &self,
        job: FetchJob,
        cancel: watch::Receiver<bool>,
    ) -> Result<(), FetchError> {
        let first = job
            .uris
            .first()
            .map(|uri| uri.value.clone())
            .unwrap_or_default();
        let failed = |cause| FetchError {
            uri: first.clone(),
            cause,
        };
        let (done, answer) = oneshot::channel();
        let mut work = Work {
            options: self.options.clone(),
            client: self.client.clone(),
            runtime: Handle::current(),
            cancel,
            written: 0,
        };
        let name = "fetcher".to_owned();
        let spawned = thread::Builder::new().name(name).spawn(move || {
            // The receiver may be gone: the node stops.
            let _ = done.send(work.run(&job));
        });
        spawned.map_err(|error| failed(FetchCause::User(error)))?;
        match answer.await {
            Ok(result) => result,
            // The thread died; its panic is in the log.
            Err(_) => Err(failed(FetchCause::Cancelled)),
        }
    }
}

/// One job on its thread.
struct Work {
    options: Arc<FetchOptions>,
    client: HttpClient,
    runtime: Handle,
    cancel: watch::Receiver<bool>,
    written: u64,
}

impl Work {
    fn run(&mut self, job: &FetchJob) -> Result<(), FetchError> {
        if let (Some(user), Some(first)) = (&job.user, job.uris.first()) {
            identity::become_user(user).map_err(|error| FetchError {
                uri: first.value.clone(),
                cause: FetchCause::User(error),
            })?;
        }
        for uri in &job.uris {
            self.fetch(uri, &job.sandbox).map_err(|cause| {
                let error = FetchError {
                    uri: uri.value.clone(),
                    cause,
                };
                note(&job.sandbox, &error);
                error
            })?;
        }
        Ok(())
    }

    fn fetch(&mut self, uri: &Uri, sandbox: &Path) -> Result<(), FetchCause> {
        let value = uri.value.trim_start();
        let name = match &uri.output_file {
            Some(file) => uri::output_file(file)?,
            None => PathBuf::from(uri::base_name(value)?),
        };
        let path = sandbox.join(&name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        let mut file = create(&path)?;
        match uri::source(value, self.options.frameworks_home.as_deref())? {
            Source::Local(source) => self.copy(&source, &path, &mut file)?,
            Source::Http(source) => {
                let runtime = self.runtime.clone();
                runtime.block_on(self.download(source, &path, &mut file))?;
            }
        }
        drop(file);
        if uri.executable() {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(at(&path))?;
        } else if uri.extract() {
            extract::extract(&path, sandbox, self)?;
        }
        Ok(())
    }

    fn copy(&mut self, source: &Path, path: &Path, file: &mut File) -> Result<(), FetchCause> {
        // Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut from = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(source)
            .map_err(at(source))?;
        let metadata = from.metadata().map_err(at(source))?;
        if !metadata.is_file() {
            return Err(FetchCause::NotAFile(source.to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o777;
        self.pour(&mut from, file, source, path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(at(path))
    }

    /// Copies bytes, within the limits of the job.
    fn pour(
        &mut self,
        from: &mut dyn Read,
        to: &mut File,
        source: &Path,
        path: &Path,
    ) -> Result<(), FetchCause> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(at(source)(error)),
            };
            self.count(read)?;
            to.write_all(&buffer[..read]).map_err(at(path))?;
        }
    }

    async fn download(
        &mut self,
        source: ::http::Uri,
        path: &Path,
        file: &mut File,
    ) -> Result<(), FetchCause> {
        let patience = self.options.stall_timeout;
        let stalled = |_| FetchCause::Stalled(patience);
        let mut cancel = self.cancel.clone();
        let cancelled = async move {
            // An error means that nobody can cancel any more.
            if cancel.wait_for(|cancel| *cancel).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let client = self.client.clone();
        let transfer = async {
            let response = timeout(patience, client.get(source))
                .await
                .map_err(stalled)??;
            if response.status() != ::http::StatusCode::OK {
                return Err(FetchCause::Status(response.status().as_u16()));
            }
            let mut body = response.into_body();
            while let Some(chunk) = timeout(patience, next(&mut body)).await.map_err(stalled)? {
                let chunk = chunk.map_err(FetchCause::Body)?;
                self.count(chunk.len())?;
                file.write_all(&chunk).map_err(at(path))?;
            }
            Ok(())
        };
        tokio::select! {
            result = transfer => result,
            () = cancelled => Err(FetchCause::Cancelled),
        }
    }

    /// Some bytes are about to be written.
    fn count(&mut self, bytes: usize) -> Result<(), FetchCause> {
        if *self.cancel.borrow() {
            return Err(FetchCause::Cancelled);
        }
        self.written = self.written.saturating_add(bytes as u64);
        match self.options.bytes_max {
            Some(max) if self.written > max => Err(FetchCause::TooMuch(max)),
            _ => Ok(()),
        }
    }
}

async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        match body.frame().await? {
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_trailers) => continue,
            },
            Err(error) => return Some(Err(error)),
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> FetchCause + '_ {
    |source| FetchCause::File {
        path: path.to_owned(),
        source,
    }
}

/// Makes a file anew: one that is there is replaced and not written through, since it may be a link
/// that an archive has put there.
fn create(path: &Path) -> Result<File, FetchCause> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(at(path))
}

/// Users look for the reason in `stderr` of the sandbox, where the reference's fetcher logs.
fn note(sandbox: &Path, error: &FetchError) {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(flags)
        .open(sandbox.join("stderr"));
    // It is in the status of the task as well.
    let _ = file.and_then(|mut file| writeln!(file, "{error}"));
}

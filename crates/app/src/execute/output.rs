//! Streams what tasks write: reads `stdout` and `stderr` from their sandboxes as they grow.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tepui_client::{
    Error,
    operator::Operator,
    proto::agent::{self, call},
};
use tokio::task::JoinHandle;

/// Longest piece read at once.
const PIECE_BYTES: u64 = 256 * 1024;
/// How often a file that did not grow is looked at again.
const POLL: Duration = Duration::from_millis(100);
/// How often reading may fail in a row (the follower restarts, say) before the output is given up.
const FAILURES_MAX: u32 = 50;

/// Which of our own streams a file goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

struct Tail {
    ended: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
}

/// The output of all tasks of a job.
pub(crate) struct Tails {
    operator: Arc<Operator>,
    tails: BTreeMap<String, Tail>,
}

impl Tails {
    pub(crate) fn new(operator: Arc<Operator>) -> Self {
        Self {
            operator,
            tails: BTreeMap::new(),
        }
    }

    /// Starts to follow a task; nothing happens for one that is followed already.
    pub(crate) fn start(&mut self, task: &str, follower: &str, sandbox: &str) {
        if self.tails.contains_key(task) {
            return;
        }
        let ended = Arc::new(AtomicBool::new(false));
        let reader = |file: &str, stream| {
            let (operator, ended) = (self.operator.clone(), ended.clone());
            let (follower, path) = (follower.to_owned(), format!("{sandbox}/{file}"));
            tokio::spawn(async move {
                if let Err(error) = copy(&operator, &follower, &path, stream, || {
                    ended.load(Ordering::Acquire)
                })
                .await
                {
                    tracing::warn!(%error, path, "cannot read the output of the task");
                }
            })
        };
        let readers = vec![
            reader("stdout", Stream::Stdout),
            reader("stderr", Stream::Stderr),
        ];
        self.tails.insert(task.to_owned(), Tail { ended, readers });
    }

    /// The task ended: what it wrote until now is all there is.
    pub(crate) fn end(&mut self, task: &str) {
        if let Some(tail) = self.tails.get(task) {
            tail.ended.store(true, Ordering::Release);
        }
    }

    /// Waits until everything is copied.
    pub(crate) async fn finish(&mut self) {
        for (_, tail) in std::mem::take(&mut self.tails) {
            tail.ended.store(true, Ordering::Release);
            for reader in tail.readers {
                let _ = reader.await;
            }
        }
    }
}

/// Copies a file of a sandbox to one of our streams as it grows, until `ended` was true before a
/// read that found nothing new.
pub(crate) async fn copy(
    operator: &Operator,
    follower: &str,
    path: &str,
    stream: Stream,
    ended: impl Fn() -> bool,
) -> Result<(), Error> {
    let (mut offset, mut failures) = (0, 0);
    loop {
        let last = ended();
        match read(operator, follower, path, offset).await {
            Ok(data) if !data.is_empty() => {
                failures = 0;
                offset += data.len() as u64;
                if !write(stream, &data) {
                    return Ok(());
                }
            }
            Ok(_) if last => return Ok(()),
            Ok(_) => tokio::time::sleep(POLL).await,
            Err(error) => {
                failures += 1;
                // Before the command starts there is no file yet.
                let absent = matches!(error, Error::Status { status: 404, .. });
                if last || (!absent && failures > FAILURES_MAX) {
                    return if absent { Ok(()) } else { Err(error) };
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// One piece of a file, from `offset`; empty at its end.
pub(crate) async fn read(
    operator: &Operator,
    follower: &str,
    path: &str,
    offset: u64,
) -> Result<bytes::Bytes, Error> {
    let call = agent::Call {
        r#type: Some(call::Type::ReadFile as i32),
        read_file: Some(call::ReadFile {
            path: path.to_owned(),
            offset,
            length: Some(PIECE_BYTES),
        }),
        ..Default::default()
    };
    let response = operator.follower(follower, &call).await?;
    Ok(response
        .and_then(|r| r.read_file)
        .map(|file| file.data)
        .unwrap_or_default())
}

/// Whether anybody still reads us.
fn write(stream: Stream, data: &[u8]) -> bool {
    let written = match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(data).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(data),
    };
    written.is_ok()
}

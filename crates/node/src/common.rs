//! Endpoints that every node has, whatever its role: `/version`, `/logging/toggle`, `/files/*`,
//! `/help`, `/health`. Shapes and texts follow the reference (`docs/endpoints/`).

use crate::{
    files::{Files, FilesError, OpenFile, mode_text},
    http::{Body, Request, Response, response},
};
use http::HeaderValue;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tepui_protocol::MESOS_VERSION;
use tokio::task::AbortHandle;

/// Changes how much is logged while the process runs. 0 is the level the process was started
/// with; each step above says more.
pub trait LogLevel: Send + Sync + 'static {
    /// Applies a level.
    fn set(&self, level: u32);
}

/// For processes whose log cannot be changed.
impl LogLevel for () {
    fn set(&self, _level: u32) {}
}

/// The log's level, and its return to 0 after a while (`3rdparty/libprocess/src/logging.cpp`).
pub struct Logging {
    hook: Box<dyn LogLevel>,
    state: Arc<Mutex<LoggingState>>,
}

#[derive(Default)]
struct LoggingState {
    level: u32,
    revert: Option<AbortHandle>,
}

impl Logging {
    /// At level 0.
    pub fn new(hook: Box<dyn LogLevel>) -> Arc<Self> {
        Arc::new(Self {
            hook,
            state: Arc::default(),
        })
    }

    /// The level now.
    pub fn level(&self) -> u32 {
        self.lock().level
    }

    /// Sets a level for some time; a later call replaces an earlier one.
    pub fn set(self: &Arc<Self>, level: u32, duration: Duration) {
        let mut state = self.lock();
        if let Some(revert) = state.revert.take() {
            revert.abort();
        }
        state.level = level;
        self.hook.set(level);
        if level > 0 {
            let this = self.clone();
            let revert = tokio::spawn(async move {
                tokio::time::sleep(duration).await;
                this.lock().level = 0;
                this.hook.set(0);
            });
            state.revert = Some(revert.abort_handle());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LoggingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `/logging/toggle`
    pub fn toggle(self: &Arc<Self>, request: &Request) -> Response {
        let (level, duration) = match (request.query("level"), request.query("duration")) {
            (None, None) => return response::text(200, format!("{}\n", self.level())),
            (Some(_), None) => return bad("Expecting 'duration=value' in query.\n"),
            (None, Some(_)) => return bad("Expecting 'level=value' in query.\n"),
            (Some(level), Some(duration)) => (level, duration),
        };
        let Ok(level) = level.parse::<i64>() else {
            return bad(format!("Failed to convert '{level}' to number.\n"));
        };
        let Ok(valid) = u32::try_from(level) else {
            return bad(format!("Invalid level '{level}'.\n"));
        };
        match parse_duration(&duration) {
            Some(duration) => {
                self.set(valid, duration);
                response::ok()
            }
            None => bad(format!("Invalid duration '{duration}'.\n")),
        }
    }
}

fn bad(text: impl Into<bytes::Bytes>) -> Response {
    response::text(400, text)
}

/// A duration as flags and queries write it: `10secs`, `1.5hrs`
/// (`3rdparty/stout/include/stout/duration.hpp`).
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

/// `/version`: what we are compatible with, and what we are.
pub fn version(request: &Request) -> Response {
    response::json(request, version_json().to_string())
}

/// The document of `/version`. Clients read `version`; the build fields exist for them too.
pub fn version_json() -> Value {
    json!({
        "version": MESOS_VERSION,
        "build_date": "",
        "build_time": 0.0,
        "build_user": "",
        "tepui_version": env!("CARGO_PKG_VERSION"),
    })
}

/// `/help`: where the documentation is, and what can be asked for.
pub fn help(endpoints: &[&str]) -> Response {
    let list: String = endpoints
        .iter()
        .map(|path| format!("<li><code>{path}</code></li>"))
        .collect();
    let page = format!("<html><head><title>Help</title></head><body><ul>{list}</ul></body></html>");
    response::content("text/html", page)
}

/// One of the `/files/*` endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesEndpoint {
    /// `/files/browse`
    Browse,
    /// `/files/read`
    Read,
    /// `/files/download`
    Download,
    /// `/files/debug`
    Debug,
}

/// The paths of the [`FilesEndpoint`]s, for [`Routes`](crate::http::Routes).
pub const FILES_ENDPOINTS: [(&str, FilesEndpoint); 4] = [
    ("/files/browse", FilesEndpoint::Browse),
    ("/files/read", FilesEndpoint::Read),
    ("/files/download", FilesEndpoint::Download),
    ("/files/debug", FilesEndpoint::Debug),
];

/// Answers a `/files/*` request, off the threads that serve everybody.
pub async fn files(files: &Arc<Files>, endpoint: FilesEndpoint, request: Request) -> Response {
    let files = files.clone();
    let answer = move || match endpoint {
        FilesEndpoint::Debug => response::json(&request, debug(&files).to_string()),
        _ => match request.query("path").filter(|path| !path.is_empty()) {
            None => bad("Expecting 'path=value' in query.\n"),
            Some(path) => match endpoint {
                FilesEndpoint::Browse => browse(&files, &path, &request),
                FilesEndpoint::Read => read(&files, &path, &request),
                _ => download(&files, &path),
            },
        },
    };
    aside(answer)
        .await
        .unwrap_or_else(|| response::text(500, ""))
}

/// Runs what may block on a thread for that. `None`: it panicked, or the runtime stops.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn debug(files: &Files) -> Value {
    let attached = files.attached().into_iter();
    attached
        .map(|(name, path)| (name, Value::from(path.to_string_lossy())))
        .collect()
}

fn browse(files: &Files, path: &str, request: &Request) -> Response {
    let entries = match files.browse(path) {
        Ok(entries) => entries,
        Err(error) => return refuse(&error),
    };
    let entries = entries.iter().map(|entry| {
        json!({
            "path": entry.path,
            "nlink": entry.nlink,
            "size": entry.size,
            "mtime": entry.mtime.as_ref().map(|time| time.nanoseconds as f64 / 1e9),
            "mode": entry.mode.map(mode_text),
            "uid": entry.uid,
            "gid": entry.gid,
        })
    });
    response::json(request, Value::from_iter(entries).to_string())
}

/// Texts for offset and length that are not numbers, or below the -1 that the web UI's pager
/// sends to learn the size.
fn number(request: &Request, name: &str) -> Result<Option<u64>, Response> {
    let Some(text) = request.query(name) else {
        return Ok(None);
    };
    match text.parse::<i64>() {
        Err(_) => Err(bad(format!(
            "Failed to parse {name}: Failed to convert '{text}' to number.\n"
        ))),
        Ok(-1) => Ok(None),
        Ok(number) => u64::try_from(number)
            .map(Some)
            .map_err(|_| bad(format!("Negative {name} provided: {number}.\n"))),
    }
}

fn read(files: &Files, path: &str, request: &Request) -> Response {
    let (offset, length) = match (number(request, "offset"), number(request, "length")) {
        (Ok(offset), Ok(length)) => (offset, length),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let piece = match offset {
        Some(offset) => files.read(path, offset, length),
        // Without an offset the answer's offset is the size of the file.
        None => files.read(path, 0, Some(0)),
    };
    match piece {
        Ok(piece) => {
            let data = String::from_utf8_lossy(&piece.data);
            let body = json!({ "offset": offset.unwrap_or(piece.size), "data": data });
            response::json(request, body.to_string())
        }
        Err(error) => refuse(&error),
    }
}

fn download(files: &Files, path: &str) -> Response {
    let OpenFile { file, size, name } = match files.open(path) {
        Ok(open) => open,
        Err(FilesError::IsDirectory) => return bad("Cannot download a directory.\n"),
        Err(error) => return refuse(&error),
    };
    let mut response = response::content(mime_type(&name), "");
    *response.body_mut() = Body::file(file, size);
    // Names are chosen by tasks: control characters would not make a header.
    let disposition = format!("attachment; filename={name}");
    if let Ok(disposition) = HeaderValue::from_bytes(disposition.as_bytes()) {
        response
            .headers_mut()
            .insert("content-disposition", disposition);
    }
    response
}

fn refuse(error: &FilesError) -> Response {
    response::text(error.status(), error.to_string())
}

/// Type of a file by its name.
pub fn mime_type(name: &str) -> &'static str {
    match Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("html" | "htm") => "text/html",
        Some("css") => "text/css",
        Some("js") => "application/javascript",
        Some("json") => "application/json",
        Some("txt" | "log") => "text/plain",
        Some("xml") => "application/xml",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("ico") => "image/x-icon",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        Some("gz") => "application/x-gzip",
        Some("tar") => "application/x-tar",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, expected) in [
            ("10secs", Some(Duration::from_secs(10))),
            ("1.5hrs", Some(Duration::from_secs(5400))),
            ("0ns", Some(Duration::ZERO)),
            ("2weeks", Some(Duration::from_secs(14 * 86_400))),
            ("10", None),
            ("secs", None),
            ("-1secs", None),
            ("1e400days", None),
            ("10 secs", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}

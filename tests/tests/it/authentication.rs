//! Who gets in where credentials are set, and who does not: over libprocess by CRAM-MD5, over HTTP by basic authentication
//! and tokens.
//!
//! The client of CRAM-MD5 here is the tests' own, written from the recordings; it shares no code with the product's.

mod client;
mod exchange;
mod followers;
mod http;
mod imposter;
mod matrix;
mod secrets;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tepui_tests::cluster::{Builder, Cluster, Part};
use tepui_tests::http::{Request, Response, send};
use tepui_tests::wait::eventually;

use crate::drivers::libmesos::SOON;

/// Everybody whom the leader of the tests knows, as in the recordings.
const KNOWN: [(&str, &str); 3] = [
    ("marathon", "m-secret"),
    ("follower", "f-secret"),
    ("ops", "o-secret"),
];

/// Flags of a leader that asks everybody who they are.
const STRICT: [(&str, &str); 6] = [
    ("authenticate_frameworks", "true"),
    ("authenticate_agents", "true"),
    ("authenticate_http_frameworks", "true"),
    ("http_framework_authenticators", "basic"),
    ("authenticate_http_readonly", "true"),
    ("authenticate_http_readwrite", "true"),
];

/// Files with secrets, gone when dropped.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Files {
        Files {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A file that only its owner can read; its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        path.display().to_string()
    }

    /// Everybody who is known, for `--credentials`.
    fn credentials(&self) -> String {
        let known = KNOWN
            .iter()
            .map(|(principal, secret)| json!({"principal": principal, "secret": secret}));
        let document = json!({"credentials": known.collect::<Vec<_>>()});
        self.file("credentials", &document.to_string())
    }

    /// One principal's, for `--credential`.
    fn credential(&self, principal: &str, secret: &str) -> String {
        let document = json!({"principal": principal, "secret": secret});
        self.file(&format!("credential-{principal}"), &document.to_string())
    }
}

/// A leader alone, with the credentials of the recordings and these flags.
fn leader_with(files: &Files, flags: &[(&str, &str)]) -> Cluster {
    let mut builder = Cluster::builder()
        .only(Part::Leader)
        .flag("credentials", &files.credentials());
    for (name, value) in flags {
        builder = builder.flag(name, value);
    }
    builder.start()
}

/// A follower alone, which looks for that leader.
fn follower_of(leader: &Cluster) -> Builder {
    Cluster::builder()
        .only(Part::Follower)
        .flag("master", &leader.leader.to_string())
}

fn basic(principal: &str, secret: &str) -> String {
    let text = format!("{principal}:{secret}");
    let coded = base64::engine::general_purpose::STANDARD.encode(text);
    format!("Basic {coded}")
}

/// A request by the operator of the recordings.
fn by_operator(request: Request) -> Request {
    request.header("Authorization", &basic("ops", "o-secret"))
}

fn get(cluster: &Cluster, path: &str) -> Response {
    send(cluster.leader, &by_operator(Request::get(path)))
        .unwrap_or_else(|error| panic!("{path}: {error}\n{}", cluster.logs()))
}

/// The addresses of the followers that the leader has registered.
fn registered(cluster: &Cluster) -> Vec<String> {
    let slaves = get(cluster, "/slaves").json();
    let slaves = slaves["slaves"].as_array().cloned().unwrap_or_default();
    let pids = slaves
        .iter()
        .filter(|slave| slave["active"] == true)
        .filter_map(|slave| slave["pid"].as_str());
    pids.map(str::to_owned).collect()
}

/// Waits until one part's log has a text.
fn logged(cluster: &Cluster, part: Part, text: &str) -> bool {
    eventually(SOON, || cluster.process(part).log().contains(text))
}

fn frameworks(cluster: &Cluster) -> Vec<Value> {
    let frameworks = get(cluster, "/frameworks").json();
    frameworks["frameworks"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

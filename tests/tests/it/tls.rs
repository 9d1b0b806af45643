//! TLS from outside: the real binary under the variables that switch it on.

use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tepui_tests::{
    commands::{self, Running, run_with, start},
    http::{Request, send},
    wait::eventually,
};
use tepui_tls::{
    Tls, TlsConfig, TlsStream,
    testing::{Authority, Issued, Subject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Certificates of one authority, in a folder.
struct Place {
    folder: TempDir,
    authority: Authority,
}

/// Variables of one process.
struct Variables(Vec<(&'static str, String)>);

impl Variables {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.push((name, value.to_owned()));
        self
    }

    fn list(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }
}

fn none() -> Variables {
    Variables(Vec::new())
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
            authority: Authority::new("root"),
        };
        place.authority.write(place.path(), "ca");
        for name in ["node", "client"] {
            place.issue().write(place.path(), name);
        }
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Subject::named(["127.0.0.1"]))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Whom a client trusts and who it is, without switching TLS on for all it does.
    fn client(&self) -> Variables {
        let file = |name| self.file(name).display().to_string();
        Variables(vec![
            ("LIBPROCESS_SSL_CERT_FILE", file("client.crt")),
            ("LIBPROCESS_SSL_KEY_FILE", file("client.key")),
            ("LIBPROCESS_SSL_CA_FILE", file("ca.crt")),
        ])
    }

    /// TLS on, without verification.
    fn on(&self) -> Variables {
        let file = |name| self.file(name).display().to_string();
        Variables(vec![
            ("LIBPROCESS_SSL_ENABLED", "true".to_owned()),
            ("LIBPROCESS_SSL_CERT_FILE", file("node.crt")),
            ("LIBPROCESS_SSL_KEY_FILE", file("node.key")),
            ("LIBPROCESS_SSL_CA_FILE", file("ca.crt")),
        ])
    }

    /// Everybody verifies everybody.
    fn strict(&self) -> Variables {
        self.on()
            .with("LIBPROCESS_SSL_REQUIRE_CLIENT_CERT", "true")
            .with("LIBPROCESS_SSL_VERIFY_IPADD", "true")
            .with("LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME", "openssl")
    }

    fn start(&self, role: &str, flags: &[&str], variables: &Variables) -> Running {
        let work_dir = format!("--work_dir={}", self.file(role).display());
        let mut arguments = vec![role, "--ip=127.0.0.1", work_dir.as_str()];
        arguments.extend(flags);
        start(&arguments, &variables.list(), |_| ())
    }
}

/// One request under TLS, its answer whole, and the certificate that was shown.
fn get(address: SocketAddr, tls: &Tls, path: &str) -> std::io::Result<(String, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let talk = async {
        let tcp = TcpStream::connect(address).await?;
        let mut stream: TlsStream = tls.connect(tcp, None).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.map(|shown| shown[0].to_vec());
        Ok((
            String::from_utf8_lossy(&answer).into_owned(),
            certificate.unwrap_or_default(),
        ))
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await? })
}

/// How many followers are registered, as the operator's command says.
fn followers(leader: &str, variables: &Variables) -> usize {
    let outcome = run_with(
        &["agents", "--json", &format!("--leader={leader}")],
        &variables.list(),
    );
    if outcome.code != Some(0) {
        return 0;
    }
    serde_json::from_str::<Value>(&outcome.stdout)
        .ok()
        .and_then(|answer| answer["get_agents"]["agents"].as_array().map(Vec::len))
        .unwrap_or(0)
}

#[test]
fn a_cluster_under_tls_serves_whom_it_trusts_and_shows_a_renewed_certificate() {
    let place = Place::new();
    let ports = ["--leader_port=0", "--follower_port=0"];
    let mut cluster = place.start("mixed", &ports, &place.strict());
    let leader = cluster.address("leader");
    let url = format!("https://{leader}");
    assert!(cluster.stdout().contains(&url), "{}", cluster.stdout());
    assert!(
        eventually(PATIENCE, || followers(&url, &place.client()) == 1),
        "the follower registers: {}",
        cluster.stderr()
    );

    // A framework of the SDK, its task, and the task's output from the follower, all under TLS.
    let outcome = run_with(
        &[
            "execute",
            &format!("--master={leader}"),
            "--command=echo under cover",
        ],
        &place.strict().list(),
    )
    .expect(0);
    assert!(outcome.stdout.contains("under cover"), "{}", outcome.stdout);

    // A client that is trusted, and others that are not.
    let client = TlsConfig::client().ca_file(place.file("ca.crt"));
    let trusted = client
        .clone()
        .identity(place.file("client.crt"), place.file("client.key"));
    let trusted = Tls::load(trusted).expect("loaded");
    let (answer, first) = get(leader, &trusted, "/health").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let unknown = Tls::load(client).expect("loaded");
    assert!(get(leader, &unknown, "/health").is_err());
    assert!(send(leader, &Request::get("/health")).is_err());
    let outcome = run_with(&["agents", &format!("--leader={url}")], &[]);
    assert_ne!(outcome.code, Some(0), "{outcome:?}");

    // The certificate is renewed under the running process.
    place.issue().write(place.path(), "node");
    let renewed = || get(leader, &trusted, "/health").is_ok_and(|(_, shown)| shown != first);
    assert!(eventually(PATIENCE, renewed), "{}", cluster.stderr());
    assert_eq!(followers(&url, &place.client()), 1);
}

#[test]
fn a_cluster_is_switched_over_one_process_at_a_time() {
    let place = Place::new();
    let both = place.on().with("LIBPROCESS_SSL_SUPPORT_DOWNGRADE", "true");
    for (leads, follows) in [(&both, &none()), (&none(), &both), (&both, &both)] {
        let mut leader = place.start("leader", &["--port=0"], leads);
        let address = leader.address("leader");
        let master = format!("--master={address}");
        let follower = place.start("follower", &["--port=0", &master], follows);
        let registered = || followers(&format!("http://{address}"), &none()) == 1;
        assert!(
            eventually(PATIENCE, registered),
            "{}\n{}",
            leader.stderr(),
            follower.stderr()
        );
        let answer = send(address, &Request::get("/health")).expect("an answer in the clear");
        assert_eq!(answer.status, 200);
        drop((leader, follower));
        for role in ["leader", "follower"] {
            std::fs::remove_dir_all(place.file(role)).expect("a fresh start");
        }
    }
}

#[test]
fn what_is_wrong_with_the_variables_stops_the_start_by_name() {
    let place = Place::new();
    let missing = place.file("missing").display().to_string();
    for (variables, expected) in [
        (
            none().with("LIBPROCESS_SSL_ENABLED", "1"),
            "LIBPROCESS_SSL_KEY_FILE",
        ),
        (
            place.on().with("LIBPROCESS_SSL_VERIFY_CERT", "maybe"),
            "LIBPROCESS_SSL_VERIFY_CERT must be",
        ),
        (
            place.on().with("LIBPROCESS_SSL_CIPHERS", "RC4-SHA"),
            "LIBPROCESS_SSL_CIPHERS",
        ),
        (
            place.on().with("LIBPROCESS_SSL_CERT_FILE", &missing),
            &missing,
        ),
    ] {
        let work_dir = format!("--work_dir={}", place.file("leader").display());
        let outcome = commands::run_with(&["leader", "--port=0", &work_dir], &variables.list());
        let outcome = outcome.expect(2);
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    }
}

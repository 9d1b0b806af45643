//! The fetcher, with a real server and real archives.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tepui_node::{
    fetcher::{
        FetchCause, FetchJob, FetchOptions, Fetcher,
        http::{HttpClient, Trust},
    },
    http::{Delivery, Limits, Request, Response, Server, Service, response},
    net::Transport,
};
use tepui_protocol::v1::command_info::Uri;
use tokio::{net::TcpListener, sync::watch};

/// Serves fixed content, and redirects from `/to/PATH` to `/PATH`.
struct Content(BTreeMap<&'static str, Bytes>);

impl Service for Content {
    async fn request(&self, request: Request) -> Response {
        let path = request.path().into_owned();
        if let Some(target) = path.strip_prefix("/to/") {
            let mut redirect = response::empty(http::StatusCode::FOUND);
            let target = format!("/{target}").parse().expect("a location");
            redirect.headers_mut().insert("location", target);
            return redirect;
        }
        match self.0.get(path.as_str()) {
            Some(content) => response::content("application/octet-stream", content.clone()),
            None => response::not_found(),
        }
    }

    async fn message(&self, _: Delivery) -> bool {
        false
    }
}

struct Bench {
    dir: tempfile::TempDir,
    address: SocketAddr,
    _server: Server,
    options: FetchOptions,
    cancel: (watch::Sender<bool>, watch::Receiver<bool>),
}

impl Bench {
    async fn new(content: impl IntoIterator<Item = (&'static str, Bytes)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let content = Content(content.into_iter().collect());
        let server = Server::start(
            listener,
            Transport::plain(),
            Limits::default(),
            Arc::new(content),
        );
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("sandbox")).expect("a sandbox");
        Self {
            dir,
            address,
            _server: server,
            options: FetchOptions::default(),
            cancel: watch::channel(false),
        }
    }

    fn sandbox(&self) -> PathBuf {
        self.dir.path().join("sandbox")
    }

    fn url(&self, path: &str) -> Uri {
        uri(&format!("http://{}{path}", self.address))
    }

    async fn fetch(&self, uris: Vec<Uri>) -> Result<(), FetchCause> {
        let fetcher = Fetcher::new(self.options.clone(), HttpClient::new(Trust::System));
        let job = FetchJob {
            uris,
            sandbox: self.sandbox(),
            user: None,
        };
        let fetched = fetcher.fetch(job, self.cancel.1.clone()).await;
        fetched.map_err(|error| error.cause)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.sandbox().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn has(&self, path: &str) -> bool {
        self.sandbox().join(path).exists()
    }
}

fn uri(value: &str) -> Uri {
    Uri {
        value: value.to_owned(),
        ..Default::default()
    }
}

fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        // Not `set_path`, which refuses what must be refused on the other side.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder
            .append(&header, content.as_bytes())
            .expect("appended");
    }
    builder.into_inner().expect("a tar")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("a gzip")
}

fn zipped(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        writer.start_file(*name, options).expect("started");
        writer.write_all(content.as_bytes()).expect("written");
    }
    writer.finish().expect("a zip").into_inner()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn downloads_follow_redirects_and_keep_their_name() {
    let bench = Bench::new([("/dir/file", "hello".into())]).await;
    bench
        .fetch(vec![bench.url("/to/to/dir/file")])
        .await
        .expect("fetched");
    assert_eq!(bench.read("file"), "hello");
}

#[tokio::test]
async fn a_server_that_refuses_fails_the_fetch_and_says_so_in_the_sandbox() {
    let bench = Bench::new([]).await;
    let result = bench.fetch(vec![bench.url("/nothing")]).await;
    assert!(matches!(result, Err(FetchCause::Status(404))), "{result:?}");
    assert!(bench.read("stderr").contains("HTTP return code 404"));
}

#[tokio::test]
async fn nobody_listening_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let bench = Bench::new([]).await;
    let result = bench
        .fetch(vec![uri(&format!("http://{address}/file"))])
        .await;
    assert!(matches!(result, Err(FetchCause::Http(_))), "{result:?}");
}

#[tokio::test]
async fn local_files_are_copied_by_path_and_by_url() {
    let mut bench = Bench::new([]).await;
    let home = bench.dir.path().join("home");
    fs::create_dir_all(home.join("sub")).expect("made");
    for name in ["one", "two", "sub/three"] {
        fs::write(home.join(name), name).expect("written");
    }
    bench.options.frameworks_home = Some(home.clone());
    let uris = vec![
        uri(&format!("{}/one", home.display())),
        uri(&format!("file://{}/two", home.display())),
        uri("sub/three"),
    ];
    bench.fetch(uris).await.expect("fetched");
    assert_eq!(bench.read("one"), "one");
    assert_eq!(bench.read("two"), "two");
    assert_eq!(bench.read("three"), "sub/three");
    assert!(matches!(
        bench.fetch(vec![uri("nowhere")]).await,
        Err(FetchCause::File { .. })
    ));
    assert!(matches!(
        bench.fetch(vec![uri("sub")]).await,
        Err(FetchCause::NotAFile(_))
    ));
}

#[tokio::test]
async fn executables_are_executable_and_not_extracted() {
    let bench = Bench::new([("/run.tar", tar(&[("inner", "x")]).into())]).await;
    let uri = Uri {
        executable: Some(true),
        ..bench.url("/run.tar")
    };
    bench.fetch(vec![uri]).await.expect("fetched");
    assert_eq!(mode(&bench.sandbox().join("run.tar")), 0o755);
    assert!(!bench.has("inner"));
}

#[tokio::test]
async fn output_files_may_be_in_subdirectories_but_not_outside() {
    let bench = Bench::new([("/file", "hello".into())]).await;
    let named = |name: &str| Uri {
        output_file: Some(name.to_owned()),
        ..bench.url("/file")
    };
    bench
        .fetch(vec![named("a/b/renamed")])
        .await
        .expect("fetched");
    assert_eq!(bench.read("a/b/renamed"), "hello");
    for bad in ["../out", "/tmp/out", "a/../../out"] {
        let result = bench.fetch(vec![named(bad)]).await;
        assert!(
            matches!(result, Err(FetchCause::OutputFile(_))),
            "{bad}: {result:?}"
        );
    }
}

#[tokio::test]
async fn every_kind_of_archive_is_extracted_and_kept() {
    let plain = tar(&[("sub/inner", "content")]);
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&plain).expect("written");
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).expect("written");
    let (bz, xz) = (bz.finish().expect("a bz2"), xz.finish().expect("an xz"));
    let archives: [(&str, Vec<u8>); 8] = [
        ("/a.tar", plain.clone()),
        ("/a.tgz", gzip(&plain)),
        ("/a.tar.gz", gzip(&plain)),
        ("/a.tbz2", bz.clone()),
        ("/a.tar.bz2", bz),
        ("/a.txz", xz.clone()),
        ("/a.tar.xz", xz),
        ("/a.zip", zipped(&[("sub/inner", "content")])),
    ];
    for (name, bytes) in archives {
        let bench = Bench::new([(name, bytes.into())]).await;
        bench
            .fetch(vec![bench.url(name)])
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bench.read("sub/inner"), "content", "{name}");
        assert_eq!(mode(&bench.sandbox().join("sub/inner")), 0o755, "{name}");
        assert!(bench.has(&name[1..]), "{name}");
    }
}

#[tokio::test]
async fn a_bare_gzip_becomes_the_file_it_holds() {
    let bench = Bench::new([("/data.json.gz", gzip(b"{}").into())]).await;
    bench
        .fetch(vec![bench.url("/data.json.gz")])
        .await
        .expect("fetched");
    assert_eq!(bench.read("data.json"), "{}");
}

#[tokio::test]
async fn archives_are_left_alone_on_request() {
    let bench = Bench::new([("/a.tar", tar(&[("inner", "x")]).into())]).await;
    let uri = Uri {
        extract: Some(false),
        ..bench.url("/a.tar")
    };
    bench.fetch(vec![uri]).await.expect("fetched");
    assert!(bench.has("a.tar") && !bench.has("inner"));
}

#[tokio::test]
async fn entries_that_lead_out_of_the_sandbox_are_refused() {
    for (name, archive) in [
        ("/a.tar", tar(&[("../escaped", "x")])),
        ("/a.tar", tar(&[("sub/../../escaped", "x")])),
        ("/a.zip", zipped(&[("../escaped", "x")])),
    ] {
        let bench = Bench::new([(name, archive.into())]).await;
        let result = bench.fetch(vec![bench.url(name)]).await;
        assert!(
            matches!(result, Err(FetchCause::Escape(_))),
            "{name}: {result:?}"
        );
        assert!(!bench.dir.path().join("escaped").exists());
    }
}

#[tokio::test]
async fn absolute_names_end_up_in_the_sandbox() {
    let bench = Bench::new([("/a.tar", tar(&[("/tmp/tepui-absolute", "x")]).into())]).await;
    bench
        .fetch(vec![bench.url("/a.tar")])
        .await
        .expect("fetched");
    assert_eq!(bench.read("tmp/tepui-absolute"), "x");
}

#[tokio::test]
async fn nothing_is_written_through_a_link_to_outside() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder
        .append_link(&mut link, "out", "../..")
        .expect("appended");
    let mut file = tar::Header::new_gnu();
    file.set_size(1);
    file.set_mode(0o644);
    builder
        .append_data(&mut file, "out/escaped", &b"x"[..])
        .expect("appended");
    let archive = builder.into_inner().expect("a tar");

    let zip = zipped(&[("out/escaped", "x")]);
    let bench = Bench::new([("/a.tar", archive.into()), ("/a.zip", zip.into())]).await;
    // The tar leaves its link behind, for the zip to fall for.
    for name in ["/a.tar", "/a.zip"] {
        let result = bench.fetch(vec![bench.url(name)]).await;
        assert!(
            matches!(result, Err(FetchCause::Escape(_))),
            "{name}: {result:?}"
        );
    }
    // Neither does a download, whatever its name.
    let outside = bench.dir.path().join("precious");
    fs::write(&outside, "mine").expect("written");
    std::os::unix::fs::symlink(&outside, bench.sandbox().join("a.tar.link")).expect("linked");
    let uri = Uri {
        output_file: Some("a.tar.link".to_owned()),
        ..bench.url("/a.zip")
    };
    bench.fetch(vec![uri]).await.expect("fetched");
    assert_eq!(fs::read_to_string(&outside).expect("a file"), "mine");
}

#[tokio::test]
async fn broken_archives_fail_the_fetch() {
    for name in ["/a.tgz", "/a.tbz2", "/a.txz", "/a.zip", "/a.gz"] {
        let bench = Bench::new([(name, "this is no archive at all".into())]).await;
        let result = bench.fetch(vec![bench.url(name)]).await;
        assert!(
            matches!(result, Err(FetchCause::Archive(_))),
            "{name}: {result:?}"
        );
    }
}

#[tokio::test]
async fn what_an_archive_unpacks_to_counts_towards_the_limit() {
    let bomb = gzip(&vec![0; 1 << 20]);
    let mut bench = Bench::new([("/bomb.gz", bomb.into())]).await;
    bench.options.bytes_max = Some(64 << 10);
    let result = bench.fetch(vec![bench.url("/bomb.gz")]).await;
    assert!(matches!(result, Err(FetchCause::TooMuch(_))), "{result:?}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_when_nobody_wants_the_file_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let bench = Bench::new([]).await;
    let fetch = bench.fetch(vec![uri(&format!("http://{address}/file"))]);
    let cancel = async {
        // The fetch is under way: it has connected, and hears nothing.
        let connection = listener.accept().await.expect("a connection");
        bench.cancel.0.send_replace(true);
        connection
    };
    let (result, _connection) = tokio::join!(fetch, cancel);
    assert!(matches!(result, Err(FetchCause::Cancelled)), "{result:?}");
}

#[tokio::test]
async fn schemes_that_nobody_speaks_are_named() {
    let bench = Bench::new([]).await;
    let result = bench.fetch(vec![uri("hdfs://name/file")]).await;
    assert!(matches!(result, Err(FetchCause::Scheme(scheme)) if scheme == "hdfs"));
}

/// Only root can become somebody else; elsewhere there is nothing to see.
#[tokio::test]
async fn fetching_is_done_as_the_tasks_user() {
    let nobody = tepui_containers::linux::lookup_user("nobody").expect("users");
    let (true, Some(user)) = (rustix::process::geteuid().is_root(), nobody) else {
        return;
    };
    let bench = Bench::new([("/a.tar", tar(&[("inner", "x")]).into())]).await;
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    };
    open(bench.dir.path(), 0o755);
    let sandbox = bench.sandbox();
    std::os::unix::fs::chown(&sandbox, Some(user.uid), Some(user.gid)).expect("given away");
    let secret = bench.dir.path().join("secret");
    fs::write(&secret, "root's").expect("written");
    open(&secret, 0o600);
    let fetch = |uri: Uri| {
        let fetcher = Fetcher::new(bench.options.clone(), HttpClient::new(Trust::System));
        let job = FetchJob {
            uris: vec![uri],
            sandbox: sandbox.clone(),
            user: Some(user.clone()),
        };
        let cancel = bench.cancel.1.clone();
        async move { fetcher.fetch(job, cancel).await.map_err(|e| e.cause) }
    };
    fetch(bench.url("/a.tar")).await.expect("fetched");
    for name in ["a.tar", "inner"] {
        let metadata = fs::metadata(sandbox.join(name)).expect("a file");
        let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
        assert_eq!(owner, user.uid, "{name}");
    }
    let result = fetch(uri(&secret.display().to_string())).await;
    assert!(
        matches!(&result, Err(FetchCause::File { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied),
        "{result:?}"
    );
    assert!(rustix::process::geteuid().is_root());
}

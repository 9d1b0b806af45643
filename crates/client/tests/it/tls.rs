//! TLS between the SDK and a scripted server that needs a certificate.

use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path};
use tepui_client::{
    Codec, Error, Tls, TlsConfig,
    executor::{Environment, Event, Executor},
    operator::Operator,
};
use tepui_tls::{
    TlsStream,
    testing::{Authority, Issued, Subject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

/// Certificates of one authority, in a folder.
struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
            authority: Authority::new("root"),
        };
        place.authority.write(place.folder.path(), "ca");
        place.issue().write(place.folder.path(), "node");
        place
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Subject::named(["localhost"]))
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What a client needs to be let in.
    fn client(&self) -> TlsConfig {
        TlsConfig::client()
            .ca_file(self.path("ca.crt"))
            .identity(self.path("node.crt"), self.path("node.key"))
    }

    /// Answers every connection with `answer`, and tells the heads and bodies it got.
    async fn serve(&self, answer: String) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
        let mut config = TlsConfig::server(self.path("node.crt"), self.path("node.key"))
            .ca_file(self.path("ca.crt"));
        config.verification.client = true;
        config.verification.scheme = tepui_tls::HostnameScheme::OpenSsl;
        let tls = Tls::load(config).expect("loaded");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else {
                    return;
                };
                if let Ok(mut stream) = tls.accept(tcp).await {
                    let request = request(&mut stream).await;
                    stream.write_all(answer.as_bytes()).await.expect("sent");
                    stream.flush().await.expect("sent");
                    if tell.send(request).is_err() {
                        return;
                    }
                    // The client ends it.
                    let _ = stream.read(&mut [0; 64]).await;
                }
            }
        });
        (address, told)
    }
}

/// One request with a body of known length.
async fn request(stream: &mut TlsStream) -> String {
    let mut read = String::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        read.push_str(&String::from_utf8_lossy(&buffer[..count]));
        let Some((head, body)) = read.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return read;
        }
    }
}

/// An answer that goes on.
fn stream_of(event: &Value) -> String {
    let event = event.to_string();
    let record = format!("{}\n{event}", event.len());
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{record}\r\n",
        record.len()
    )
}

#[tokio::test]
async fn an_executor_follows_the_variables_of_its_environment() {
    let place = Place::new();
    let id = |value: &str| json!({ "value": value });
    let subscribed = json!({ "type": "SUBSCRIBED", "subscribed": {
        "executor_info": { "executor_id": id("e"), "framework_id": id("f") },
        "framework_info": { "user": "root", "name": "test", "id": id("f") },
        "agent_info": { "hostname": "localhost", "id": id("a") },
    }});
    let (address, mut told) = place.serve(stream_of(&subscribed)).await;
    let variables = |name: &str| {
        let value = match name {
            "MESOS_AGENT_ENDPOINT" => format!("localhost:{}", address.port()),
            "MESOS_FRAMEWORK_ID" => "f".to_owned(),
            "MESOS_EXECUTOR_ID" => "e".to_owned(),
            "LIBPROCESS_SSL_ENABLED" | "LIBPROCESS_SSL_VERIFY_SERVER_CERT" => "true".to_owned(),
            "LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME" => "openssl".to_owned(),
            "LIBPROCESS_SSL_CERT_FILE" => place.path("node.crt"),
            "LIBPROCESS_SSL_KEY_FILE" => place.path("node.key"),
            "LIBPROCESS_SSL_CA_FILE" => place.path("ca.crt"),
            _ => return None,
        };
        Some(value)
    };
    let environment = Environment::from_vars(variables).expect("complete");
    let mut executor = Executor::new(environment, Codec::Json).expect("an executor");
    let event = executor.next().await.expect("an event");
    assert!(matches!(event, Event::Subscribed(_)), "{event:?}");
    let request = told.recv().await.expect("a request");
    assert!(
        request.starts_with("POST /api/v1/executor HTTP/1.1"),
        "{request}"
    );

    let error = Environment::from_vars(|name| match name {
        "LIBPROCESS_SSL_KEY_FILE" => None,
        name => variables(name),
    });
    let error = error.expect_err("incomplete").to_string();
    assert!(error.contains("LIBPROCESS_SSL_KEY_FILE"), "{error}");
}

#[tokio::test]
async fn operators_reach_whom_they_trust_and_who_trusts_them() {
    let place = Place::new();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned();
    let (address, _told) = place.serve(answer).await;
    let port = address.port();
    let target = format!("https://localhost:{port}");
    let ask = async |target: &str, config: Option<TlsConfig>| {
        let operator = Operator::new(target, None).expect("an operator");
        let operator = match config {
            Some(config) => operator.tls(Tls::load(config).expect("loaded")),
            None => operator,
        };
        operator.get("/state").await.map(|body| body.to_vec())
    };
    for target in [&target, &format!("localhost:{port}")] {
        let answer = ask(target, Some(place.client())).await;
        assert_eq!(answer.expect("an answer"), b"{}", "{target}");
    }
    let mut nobody = place.client();
    nobody.identity = None;
    let other = Authority::new("other").write(Path::new(&place.path("")), "other");
    for (target, config) in [
        (target.clone(), nobody),
        (target.clone(), place.client().ca_file(other)),
        // Certified for localhost, not for its address.
        (format!("https://127.0.0.1:{port}"), place.client()),
        // In the clear, to a port that speaks TLS alone.
        (format!("http://localhost:{port}"), place.client()),
    ] {
        let answer = ask(&target, Some(config)).await;
        assert!(matches!(answer, Err(Error::Connect { .. })), "{answer:?}");
    }
    // Untold, a client asks the authorities of this machine, which know nothing of ours.
    assert!(ask(&target, None).await.is_err());
}

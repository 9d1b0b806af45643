//! Two ends of a connection.

use std::{io, net::IpAddr, time::Duration};
use tepui_tls::{
    HostnameScheme, Tls, TlsConfig, TlsStream,
    testing::{Authority, Issued, Subject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A directory with an authority.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            authority: Authority::new("root"),
        }
    }

    /// A configuration with a certificate that was written as `name`, and our authority.
    pub(crate) fn with(&self, name: &str, issued: &Issued) -> TlsConfig {
        let (cert, key) = issued.write(self.dir.path(), name);
        let ca = self.authority.write(self.dir.path(), "root");
        TlsConfig::server(cert, key).ca_file(ca)
    }

    /// A configuration with a certificate of our authority.
    pub(crate) fn node(&self, name: &str, names: &[&str]) -> TlsConfig {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let subject = Subject {
            names,
            ..Subject::default()
        };
        self.with(name, &self.authority.issue(&subject))
    }
}

/// Loads, with addresses that have this name.
pub(crate) fn load(config: TlsConfig, name: Option<&'static str>) -> Tls {
    Tls::load_with_lookup(config, move |_: IpAddr| name.map(str::to_owned)).expect("loaded")
}

/// Verifies servers (and clients) from now on.
pub(crate) fn verifying(mut config: TlsConfig, scheme: HostnameScheme) -> TlsConfig {
    config.verification.server = true;
    config.verification.scheme = scheme;
    config
}

/// What each end got.
pub(crate) struct Ends {
    pub(crate) server: io::Result<TlsStream>,
    pub(crate) client: io::Result<TlsStream>,
}

impl Ends {
    /// Both ends are there and hear each other.
    pub(crate) async fn talk(self) -> io::Result<(TlsStream, TlsStream)> {
        let (mut client, mut server) = (self.client?, self.server?);
        let both = async {
            let (mut heard, mut answer) = ([0; 4], [0; 4]);
            client.write_all(b"ping").await?;
            client.flush().await?;
            server.read_exact(&mut heard).await?;
            server.write_all(b"pong").await?;
            server.flush().await?;
            client.read_exact(&mut answer).await?;
            assert_eq!((&heard, &answer), (b"ping", b"pong"));
            Ok((client, server))
        };
        tokio::time::timeout(Duration::from_secs(20), both).await?
    }

    /// Why one end did not want the other.
    pub(crate) async fn refusal(self) -> String {
        match (self.client, self.server) {
            (Err(client), Err(server)) => format!("client: {client}; server: {server}"),
            (Err(client), Ok(_)) => format!("client: {client}"),
            // With TLS 1.3 a client is done before it hears that it is not wanted.
            (Ok(mut client), Err(server)) => {
                let mut byte = [0; 1];
                let read = client.read(&mut byte);
                let read = tokio::time::timeout(Duration::from_secs(20), read).await;
                let read = read.expect("closed");
                assert!(matches!(read, Err(_) | Ok(0)), "{read:?}");
                format!("server: {server}")
            }
            (Ok(_), Ok(_)) => panic!("both were content"),
        }
    }
}

/// A handshake over loopback.
pub(crate) async fn meet(client: &Tls, server: &Tls, host: Option<&str>) -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepted = async {
        let (tcp, _) = listener.accept().await.expect("accepted");
        server.accept(tcp).await
    };
    let connected = async {
        let tcp = TcpStream::connect(address).await.expect("connected");
        client.connect(tcp, host).await
    };
    let both = async { tokio::join!(accepted, connected) };
    let (server, client) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("both ends come to a result");
    Ends { server, client }
}

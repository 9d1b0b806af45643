//! The operator API of leaders and followers, and their plain JSON endpoints.

use crate::{
    Codec, Credential, Error,
    detect::Target,
    http::{Http, Records},
    proto::{agent, master},
};
use tepui_tls::Tls;

/// Talks to one leader (found through its target) and to any follower by address.
#[derive(Clone)]
pub struct Operator {
    target: Target,
    http: Http,
}

impl Operator {
    /// `target`: see [`Target::parse`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when the target or the credential cannot be used.
    pub fn new(target: &str, credential: Option<&Credential>) -> Result<Self, Error> {
        let http = Http::new(Codec::Protobuf, credential.map(Http::basic))?;
        let target = Target::parse(target)?;
        Ok(Self {
            http: http.secure(target.is_secure()),
            target,
        })
    }

    /// Speaks TLS with these certificates and authorities, also to `host:port` without a scheme.
    /// Without this, servers at `https://` addresses are verified against the authorities of this
    /// machine.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.http = self.http.tls(tls);
        self
    }

    /// Speaks `codec` from now on.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.http.codec = codec;
        self
    }

    /// Calls the leader. `None` when it answers without a body (202, or 200 for calls that only act).
    ///
    /// # Errors
    /// [`Error::Status`] with the leader's own words when it refuses.
    pub async fn leader(&self, call: &master::Call) -> Result<Option<master::Response>, Error> {
        let address = self.target.resolve().await?;
        self.http.call(&address, "/api/v1", call).await
    }

    /// Calls the follower at `address` (`host:port`).
    ///
    /// # Errors
    /// As [`Operator::leader`].
    pub async fn follower(
        &self,
        address: &str,
        call: &agent::Call,
    ) -> Result<Option<agent::Response>, Error> {
        self.http.call(address, "/api/v1", call).await
    }

    /// Body of a plain endpoint of the leader, such as `/state`.
    ///
    /// # Errors
    /// [`Error::Status`] for anything but 2xx.
    pub async fn get(&self, path: &str) -> Result<bytes::Bytes, Error> {
        let address = self.target.resolve().await?;
        self.http.fetch(&address, path).await
    }

    /// Posts a JSON document to a plain endpoint of the leader, such as `/tepui/explain`; the body of the answer.
    ///
    /// # Errors
    /// [`Error::Status`] for anything but 2xx.
    pub async fn post_json(&self, path: &str, document: String) -> Result<bytes::Bytes, Error> {
        let address = self.target.resolve().await?;
        self.http.post_json(&address, path, document).await
    }

    /// Body of a plain endpoint of the process at `address`.
    ///
    /// # Errors
    /// [`Error::Status`] for anything but 2xx.
    pub async fn get_from(&self, address: &str, path: &str) -> Result<bytes::Bytes, Error> {
        self.http.fetch(address, path).await
    }

    /// Subscribes to the leader's events. The first one is `SUBSCRIBED` with the whole state.
    ///
    /// # Errors
    /// [`Error::Status`] when the leader refuses.
    pub async fn subscribe(&self) -> Result<Events, Error> {
        let address = self.target.resolve().await?;
        let call = master::Call {
            r#type: Some(master::call::Type::Subscribe as i32),
            ..Default::default()
        };
        let (address, response) = self.http.post(&address, "/api/v1", None, &call).await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            crate::http::expect_success(&address, response).await?;
            return Err(Error::Status {
                address,
                status,
                message: String::new(),
            });
        }
        Ok(Events(Records::new(
            address,
            self.http.codec,
            response.into_body(),
        )))
    }
}

/// Events of a leader, heartbeats included.
pub struct Events(Records);

impl Events {
    /// The next event; `None` when the leader ended the stream.
    ///
    /// # Errors
    /// [`Error::Connect`] when the connection broke.
    pub async fn next(&mut self) -> Result<Option<master::Event>, Error> {
        self.0.next().await
    }
}

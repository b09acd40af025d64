//! From nothing to an accepted session: name, TCP, TLS, WebSocket, CONNECT, CONNACK. Keeps nothing and counts nothing.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::codec::{CodecError, ConnAck, Decoder, Incoming};
use super::inbox::Inbox;
use super::outgoing::put_connect;
use super::socket::Socket;
use super::websocket::{self, WebSocket};
use super::{Context, Transport};

/// How long each of the two halves, reaching the broker and being accepted by it, may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// TCP or TLS, or a WebSocket on one of them.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub(super) type Stream = Box<dyn Duplex>;

/// Why there is no connection (any more).
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("find the address of {host}")]
    Name {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("connect to {endpoint}")]
    Tcp {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    #[error("agree on TLS with {endpoint}")]
    Tls {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    #[error("agree on a WebSocket with {endpoint}")]
    WebSocket {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    #[error("{step} {endpoint}: no answer in {} s", CONNECT_TIMEOUT.as_secs())]
    NoAnswer { step: &'static str, endpoint: String },
    #[error("log in at {endpoint}: the broker refuses: {reason}")]
    Refused { endpoint: String, reason: String },
    #[error("stay connected to {endpoint}: the broker closed the connection")]
    Closed { endpoint: String },
    #[error("stay connected to {endpoint}: the broker ended it: {reason}")]
    Disconnected { endpoint: String, reason: String },
    #[error("stay connected to {endpoint}: not a word for {seconds} s")]
    Silent { endpoint: String, seconds: u64 },
    #[error("stay connected to {endpoint}: the broker takes nothing for {seconds} s")]
    Stalled { endpoint: String, seconds: u64 },
    #[error("stay connected to {endpoint}")]
    Broken {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    #[error("understand {endpoint}")]
    Codec {
        endpoint: String,
        #[source]
        source: CodecError,
    },
}

/// A session that the broker accepted.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// What came behind the CONNACK.
    pub(super) inbox: Inbox,
    pub(super) decoder: Decoder,
    pub(super) answer: ConnAck,
}

/// Reaches the broker and is accepted by it. Files of credentials are read again before.
pub(super) async fn open(context: &Context) -> Result<Opened, ConnectionError> {
    context.credentials.refresh().await;
    let no_answer = |step| move |_| ConnectionError::NoAnswer { step, endpoint: context.endpoint.clone() };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, reach(context)).await.map_err(no_answer("connect to"))??;
    tokio::time::timeout(CONNECT_TIMEOUT, log_in(context, stream)).await.map_err(no_answer("log in at"))?
}

async fn reach(context: &Context) -> Result<Stream, ConnectionError> {
    let config = &context.config;
    let addresses = tokio::net::lookup_host((config.host.as_str(), config.port))
        .await
        .map_err(|source| ConnectionError::Name { host: config.host.clone(), source })?;
    let addresses: Vec<_> = addresses.collect();
    let tcp_error = |source| ConnectionError::Tcp { endpoint: context.endpoint.clone(), source };
    let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(tcp_error)?;
    tcp.set_nodelay(true).map_err(tcp_error)?;
    let tcp = Socket::new(tcp).map_err(tcp_error)?;
    let (Some(connector), Some(name)) = (context.credentials.connector(), &context.server_name) else {
        return upgrade(context, tcp).await;
    };
    let tls = connector
        .connect(name.clone(), tcp)
        .await
        .map_err(|source| ConnectionError::Tls { endpoint: context.endpoint.clone(), source })?;
    upgrade(context, tls).await
}

/// The stream itself, or a WebSocket on it.
async fn upgrade(context: &Context, stream: impl Duplex + 'static) -> Result<Stream, ConnectionError> {
    let config = &context.config;
    match &config.transport {
        Transport::Tcp => Ok(Box::new(stream)),
        Transport::WebSocket { path } => {
            let address = websocket::address(&config.host, config.port, path);
            let socket = WebSocket::upgrade(stream, &address)
                .await
                .map_err(|source| ConnectionError::WebSocket { endpoint: context.endpoint.clone(), source })?;
            Ok(Box::new(socket))
        }
    }
}

async fn log_in(context: &Context, mut stream: Stream) -> Result<Opened, ConnectionError> {
    let broken = |source| ConnectionError::Broken { endpoint: context.endpoint.clone(), source };
    let codec = |source| ConnectionError::Codec { endpoint: context.endpoint.clone(), source };
    let mut out = BytesMut::new();
    put_connect(&context.config, &context.credentials.shown(), &mut out);
    stream.write_all(&out).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut decoder = Decoder::new(context.config.version, context.config.packet_bytes_max);
    let mut inbox = Inbox::new();
    loop {
        let mut rest = inbox.unread();
        let packet = decoder.next(&mut rest).map_err(codec)?;
        match packet {
            Some(Incoming::ConnAck(answer)) => {
                let behind = rest.len();
                inbox.keep(behind);
                return accept(context, Opened { stream, inbox, decoder, answer });
            }
            Some(Incoming::Disconnect(reason)) => {
                return Err(ConnectionError::Refused { endpoint: context.endpoint.clone(), reason });
            }
            Some(_) => {
                let problem = "it is not the first packet".to_owned();
                return Err(codec(CodecError::Control { packet: "CONNACK", problem }));
            }
            None => {}
        }
        let count = stream.read(inbox.spare()).await.map_err(broken)?;
        inbox.filled(count);
        if count == 0 {
            return Err(ConnectionError::Closed { endpoint: context.endpoint.clone() });
        }
    }
}

fn accept(context: &Context, opened: Opened) -> Result<Opened, ConnectionError> {
    match &opened.answer.refusal {
        Some(reason) => Err(ConnectionError::Refused { endpoint: context.endpoint.clone(), reason: reason.clone() }),
        None => Ok(opened),
    }
}

//! MQTT inside WebSocket messages (MQTT 3.1.1 and 5, section 6) as a plain stream of bytes, for brokers behind proxies.
//!
//! Packets and messages need not begin together, so each message is only a piece of the stream. A whole message of the
//! WebSocket layer lies in memory before the first byte of it is read; MQTT's own limit of 256 MiB bounds it, because a
//! lower one would end the connection at a message that comes again for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Longest packet of MQTT: four bytes of seven bits, and five bytes before them.
const MESSAGE_BYTES_MAX: usize = 268_435_455 + 5;
/// Name of the protocol in the handshake.
const PROTOCOL: &str = "mqtt";

/// A connection through which bytes flow in WebSocket messages.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What is left of the message that is being read.
    unread: Bytes,
}

/// Where the broker's WebSocket is.
pub(super) fn address(host: &str, port: u16, path: &str) -> String {
    // The scheme only chooses the default port: TLS, when there is any, lies below.
    if host.contains(':') { format!("ws://[{host}]:{port}{path}") } else { format!("ws://{host}:{port}{path}") }
}

/// Whether a path can stand in a request.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('#') && address("host", 1, path).parse::<Uri>().is_ok()
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Asks the other side of `stream` to speak MQTT over WebSocket.
    pub(super) async fn upgrade(stream: S, address: &str) -> io::Result<WebSocket<S>> {
        let uri: Uri = address.parse().map_err(io::Error::other)?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL);
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let (inner, _) = client_async_with_config(request, stream, Some(limits)).await.map_err(into_io)?;
        Ok(WebSocket::of(inner))
    }

    /// Of a WebSocket that is open.
    pub(super) fn of(inner: WebSocketStream<S>) -> WebSocket<S> {
        WebSocket { inner, unread: Bytes::new() }
    }

    /// The next message that carries bytes; none when the other side has closed.
    fn poll_message(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match ready!(Pin::new(&mut self.inner).poll_next(ctx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Ok(Some(bytes))),
                // Pings are answered by the layer below, with the next write or flush.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let error = "a WebSocket message is text, and MQTT is binary";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(None)),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    /// As many messages as are there and fit: a broker sends each packet in a message of its own.
    fn poll_read(self: Pin<&mut Self>, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            if this.unread.is_empty() {
                match this.poll_message(ctx) {
                    Poll::Ready(Ok(Some(bytes))) => this.unread = bytes,
                    // What was read comes first; the end or the error is found again by the next read.
                    _ if buffer.filled().len() > before => break,
                    Poll::Ready(Ok(None)) => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let count = this.unread.len().min(buffer.remaining());
            buffer.put_slice(&this.unread[..count]);
            this.unread.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = Pin::new(&mut self.get_mut().inner);
        ready!(inner.as_mut().poll_ready(ctx)).map_err(into_io)?;
        inner.start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(into_io)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(ctx).map_err(into_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(ctx).map_err(into_io)
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

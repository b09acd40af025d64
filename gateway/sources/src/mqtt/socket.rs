//! A TCP connection that wakes nobody while nobody reads.
//!
//! A broker writes one small packet after another. Tokio's own socket is told of each one by the kernel, also while the
//! session gathers and does not want to know: at 30,000 messages a second that is 17,000 wake-ups a second and half of
//! the processor time. Here a side of the connection is registered only while a read waits for its first byte, or a write
//! for room.
//!
//! A broker that holds small packets back until the last one is confirmed (Nagle's algorithm; Mosquitto does unless
//! `set_tcp_nodelay` is on) meets a kernel that confirms only after 40 ms, or when our PUBACK leaves after its commit. So
//! a read that brought little is confirmed at once. In a dense stream the holding back is welcome: it makes segments
//! large.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream as Watch;

/// A read that brought less is confirmed at once: the most that some messages of one moment have.
const SPARSE_BYTES_MAX: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    connection: TcpStream,
    /// Registered while a read waits.
    readable: Option<Watch>,
    /// Registered while a write waits.
    writable: Option<Watch>,
}

impl Socket {
    /// Takes a connected socket over. It stays non-blocking, and so do its copies: the flag belongs to the connection.
    pub(super) fn new(connected: tokio::net::TcpStream) -> io::Result<Socket> {
        Ok(Socket { connection: connected.into_std()?, readable: None, writable: None })
    }
}

/// The descriptor of a registration; made when there is none.
fn watch<'watch>(connection: &TcpStream, place: &'watch mut Option<Watch>) -> io::Result<&'watch Watch> {
    match place {
        Some(watch) => Ok(watch),
        empty => Ok(empty.insert(Watch::from_std(connection.try_clone()?)?)),
    }
}

/// Sends the kernel's acknowledgement of what was read now. A kernel that cannot sends it later.
#[cfg(target_os = "linux")]
fn confirm(connection: &TcpStream) {
    drop(socket2::SockRef::from(connection).set_tcp_quickack(true));
}

#[cfg(not(target_os = "linux"))]
fn confirm(_connection: &TcpStream) {}

fn must_wait<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Socket { connection, readable, .. } = self.get_mut();
        let mut result = (&*connection).read(buffer.initialize_unfilled());
        while must_wait(&result) {
            let watch = watch(connection, readable)?;
            ready!(watch.poll_read_ready(ctx))?;
            result = watch.try_io(Interest::READABLE, || (&*connection).read(buffer.initialize_unfilled()));
        }
        *readable = None;
        if matches!(result, Ok(1..SPARSE_BYTES_MAX)) {
            confirm(connection);
        }
        Poll::Ready(result.map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Socket { connection, writable, .. } = self.get_mut();
        let mut result = (&*connection).write(bytes);
        while must_wait(&result) {
            let watch = watch(connection, writable)?;
            ready!(watch.poll_write_ready(ctx))?;
            result = watch.try_io(Interest::WRITABLE, || (&*connection).write(bytes));
        }
        *writable = None;
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.connection.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, tokio::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        (Socket::new(near.unwrap()).unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_waiting_read_is_woken_and_registered_only_while_it_waits() {
        let (mut socket, mut far) = pair().await;
        let mut buffer = [0_u8; 16];
        for round in 0..3_u8 {
            let read = socket.read(&mut buffer);
            tokio::pin!(read);
            let early = futures_poll_once(read.as_mut()).await;
            assert!(early.is_none(), "nothing was sent yet");
            far.write_all(&[round, 7]).await.unwrap();
            assert_eq!(read.await.unwrap(), 2);
            assert_eq!(buffer[..2], [round, 7]);
            assert!(socket.readable.is_none());
        }
        drop(far);
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 0, "the other side is gone");
    }

    #[tokio::test]
    async fn more_than_fits_the_kernel_is_written_when_the_other_side_reads() {
        let (mut socket, mut far) = pair().await;
        let sent: Vec<u8> = (0..8_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let reader = tokio::spawn(async move {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            received
        });
        socket.write_all(&sent).await.unwrap();
        socket.shutdown().await.unwrap();
        assert!(reader.await.unwrap() == expected);
    }

    async fn futures_poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|ctx| match future.as_mut().poll(ctx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

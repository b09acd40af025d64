//! A TCP connection that wakes nobody while nobody reads.
//!
//! A broker writes one small packet after another. Tokio's own socket is told of each one by the kernel, also while the
//! session gathers and does not want to know: at 30,000 messages a second that is 17,000 wake-ups a second and half of
//! the processor time. Here the reading side is only registered while a read is waiting for its first byte; the writing
//! side has a descriptor and a registration of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    reader: Arc<TcpStream>,
    /// Registered while a read waits.
    watch: Option<AsyncFd<Arc<TcpStream>>>,
    writer: AsyncFd<TcpStream>,
}

impl Socket {
    /// Takes a connected socket over.
    pub(super) fn new(connected: tokio::net::TcpStream) -> io::Result<Socket> {
        // It stays non-blocking, and so does its copy: the flag belongs to the connection.
        let reader = connected.into_std()?;
        let writer = AsyncFd::register_with_interest(reader.try_clone()?, Interest::WRITABLE)?;
        Ok(Socket { reader: Arc::new(reader), watch: None, writer })
    }

    fn read_now(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let count = (&*self.reader).read(buffer.initialize_unfilled())?;
        buffer.advance(count);
        self.watch = None;
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, ctx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        loop {
            match socket.read_now(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return Poll::Ready(result),
            }
            let watch = match &mut socket.watch {
                Some(watch) => watch,
                empty => empty.insert(AsyncFd::register_with_interest(Arc::clone(&socket.reader), Interest::READABLE)?),
            };
            // Bytes that come after this are a new event, and bytes that came before it are found by the next try.
            ready!(watch.poll_read_ready(ctx))?.clear_ready();
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.writer.poll_write_ready(ctx))?;
            match guard.try_io(|writer| writer.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.writer.get_ref().shutdown(Shutdown::Write))
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
            assert!(socket.watch.is_none());
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

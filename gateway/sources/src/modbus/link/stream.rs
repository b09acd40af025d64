//! Bytes to and from a bus: a TCP connection or a serial port.
//!
//! Nothing is kept over a crash; no metrics.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::FlockOperation;
use serial2::{CharSize, FlowControl, SerialPort, Settings, StopBits};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::config::{Parity, SerialConfig, SerialLine};
use super::ports::Machine;

/// Bytes that are read at once: more than the longest frame.
const READ_BYTES: usize = 512;
/// Bytes that are thrown away at once before a request: more than a serial driver or a converter keeps. What is behind
/// them is noise that does not end.
const DISCARD_BYTES_MAX: usize = 64 << 10;
/// A modem that lost its network is noticed after this and three questions: before anybody misses more than a few polls,
/// and seldom enough for a tariff by volume (40 bytes a minute).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_QUESTIONS: u32 = 3;

/// An open link.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Serial(AsyncFd<SerialPort>),
    /// Without a kernel between, so that a test can have a time of its own.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl Stream {
    pub(super) fn tcp(stream: TcpStream) -> Stream {
        // Without this the kernel may hold a request back for the acknowledgement of the last one; a stack that cannot
        // switch it off is slower, not wrong. So is one without keepalive.
        drop(stream.set_nodelay(true));
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_QUESTIONS);
        drop(SockRef::from(&stream).set_tcp_keepalive(&keepalive));
        Stream::Tcp(stream)
    }

    /// Opens a serial port. Blocks for as long as its driver takes; gives the failure in words.
    pub(super) fn serial(config: &SerialConfig) -> Result<Stream, String> {
        let path = Machine::this().resolve(&config.port).map_err(|error| error.to_string())?;
        let settings = |settings: Settings| set(settings, config.line);
        let port = SerialPort::open(&path, settings).map_err(|error| open_text(&error, config.line))?;
        lock(&port).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => "another program uses it".to_owned(),
            _ => error.to_string(),
        })?;
        #[expect(deprecated, reason = "its successor is unsafe; a SerialPort keeps its descriptor as long as it lives")]
        let registered = AsyncFd::new(port);
        registered.map(Stream::Serial).map_err(|error| error.to_string())
    }

    /// Adds what has come, at least one byte; 0 at the end of the stream.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => {
                buffer.reserve(READ_BYTES);
                stream.read_buf(buffer).await
            }
            Stream::Serial(port) => {
                let mut bytes = [0; READ_BYTES];
                let read = |port: &SerialPort| Ok(rustix::io::read(port, &mut bytes)?);
                let count = port.async_io(Interest::READABLE, read).await?;
                buffer.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            #[cfg(test)]
            Stream::Memory(stream) => stream.read_buf(buffer).await,
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Serial(port) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let write = |port: &SerialPort| Ok(rustix::io::write(port, rest)?);
                    let count = port.async_io(Interest::WRITABLE, write).await?;
                    rest = &rest[count..];
                }
                Ok(())
            }
            #[cfg(test)]
            Stream::Memory(stream) => stream.write_all(bytes).await,
        }
    }

    /// Throws away what has come already, without waiting, and says how much that was. Fails at the end of the stream.
    pub(super) fn discard(&mut self) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let mut discarded = 0;
        while discarded < DISCARD_BYTES_MAX {
            match self.read_now(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => discarded += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(discarded)
    }

    fn read_now(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => Ok(rustix::io::read(stream.as_fd(), bytes)?),
            Stream::Serial(port) => Ok(rustix::io::read(port.get_ref().as_fd(), bytes)?),
            #[cfg(test)]
            Stream::Memory(stream) => {
                let read = futures_util::FutureExt::now_or_never(stream.read(bytes));
                read.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
            }
        }
    }
}

fn set(mut settings: Settings, line: SerialLine) -> io::Result<Settings> {
    settings.set_raw();
    settings.set_baud_rate(line.baud)?;
    settings.set_char_size(CharSize::Bits8);
    settings.set_stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One });
    settings.set_parity(match line.parity {
        Parity::None => serial2::Parity::None,
        Parity::Even => serial2::Parity::Even,
        Parity::Odd => serial2::Parity::Odd,
    });
    settings.set_flow_control(FlowControl::None);
    Ok(settings)
}

/// Keeps other programs away: those that ask (the lock), and those that do not (the exclusive mode, which does not
/// bind root).
fn lock(port: &SerialPort) -> io::Result<()> {
    rustix::fs::flock(port, FlockOperation::NonBlockingLockExclusive)?;
    Ok(rustix::termios::ioctl_tiocexcl(port)?)
}

fn open_text(error: &io::Error, line: SerialLine) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "no permission: the user of the gateway must be in the group dialout".to_owned()
        }
        io::ErrorKind::ResourceBusy => "another program uses it".to_owned(),
        // serial2 compares what was asked for with what the driver made of it.
        io::ErrorKind::Other => format!("its driver does not take {line}: {error}"),
        _ => error.to_string(),
    }
}

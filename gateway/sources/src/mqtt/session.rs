//! The ingest loop of one connection: packets to chunks of frames, commits to acknowledgements.
//!
//! One task does all of it and has two ways of waiting: with the connection read, or, while the pipeline is full, with
//! it left alone. Acknowledgements, pings and the watch over the connection go on in both. Nothing survives the
//! connection. The metrics are those of the module above.

use std::borrow::Cow;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use kerbside_model::{Frames, Input, Tags, Timestamp};
use kerbside_runtime::{IntakeClosed, Receipt, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, warn};

use super::acks::Acks;
use super::codec::{CodecError, Decoder, Delivery, Incoming, Oversize, Publish, Terms};
use super::connect::{CONNECT_TIMEOUT, ConnectionError, Opened, Stream};
use super::inbox::Inbox;
use super::link::Link;
use super::outgoing::{put_disconnect, put_ping, put_pubcomp, put_publish};
use super::sparkplug::Sparkplug;
use super::subscriptions::{Memory, Reconciliation};
use super::tags::Tagger;
use super::{Context, Counters, MqttVersion};

/// How many messages go to the pipeline at once: enough that the hand-over costs nothing a message.
const CHUNK_MESSAGES_MAX: usize = 2048;
/// How many bytes go to the pipeline at once.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// While messages come one after the other, so long passes between two reads, so that one read brings many of them.
/// Each read becomes a commit and a request to the database, whose costs are then shared: measured with Mosquitto at
/// 30,000 messages a second. It is most of the ten milliseconds that all of it may take.
const GATHER_WAIT: Duration = Duration::from_millis(7);
/// A read that brought more than this waits for nothing: most of the buffer ...
const GATHER_BYTES_MAX: usize = 112 * 1024;
/// ... or, since one read brings no more than one record, just below a full TLS record.
const GATHER_TLS_BYTES_MAX: usize = 15 * 1024;
/// Reading stops while more than this waits to be sent to a broker that does not listen.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// How long the end of the gateway waits for the last commits.
const FINISH_WAIT: Duration = Duration::from_secs(5);
/// The watch over the connection and over the files of credentials looks at least so often.
const TICK_MAX: Duration = Duration::from_secs(15);
/// Reason code of a normal end (MQTT 5, section 3.14.2.1).
const NORMAL_END: u8 = 0;
/// Skipped messages are logged at most so often.
const OVERSIZE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why a session ended.
pub(super) enum End {
    Shutdown,
    PipelineEnded,
    Lost(ConnectionError),
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> End {
        End::Lost(error)
    }
}

/// What a session waits for.
enum Event {
    Shutdown,
    Committed,
    Tick,
    Flushed(io::Result<()>),
    NodesDue,
    Read(io::Result<usize>),
}

/// Whether the connection is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    Paused,
}

/// How far the broker is with our subscriptions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subscribed {
    /// It has not answered all of them.
    No,
    /// It has, and that is still to be noted down.
    Answered,
    Yes,
}

/// One accepted connection.
pub(super) struct Session<'a> {
    context: &'a Context,
    shutdown: &'a Shutdown,
    is_ending: bool,
    session_present: bool,
    terms: Terms,
    memory: &'a mut Memory,
    sparkplug: Option<&'a mut Sparkplug>,
    reconciliation: Reconciliation,
    subscribed: Subscribed,
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    inbox: Inbox,
    decoder: Decoder,
    out: BytesMut,
    /// Since when `out` or the layer below holds something that is not on its way.
    unflushed_since: Option<Instant>,
    acks: Acks,
    /// What was submitted last, and the way in which its commit is told.
    mark: u64,
    mark_sender: Arc<watch::Sender<u64>>,
    marks: watch::Receiver<u64>,
    chunk: Chunk,
    tagger: Tagger,
    is_flooded: bool,
    gather: Gather,
    keep_alive: Duration,
    tick: Interval,
    last_sent: Instant,
    last_received: Instant,
    oversize_logged: Option<Instant>,
}

/// Frames that are about to be submitted, with what will be counted then.
#[derive(Default)]
struct Chunk {
    frames: Option<Frames>,
    received_at: Timestamp,
    /// Messages and bytes of the chunk before.
    room: (usize, usize),
    payload_bytes: u64,
    messages: [u64; 3],
    redelivered: u64,
}

/// Decides whether the next read waits a little, so that messages gather.
struct Gather {
    /// A read that brought more than this waits for nothing.
    bytes_max: usize,
    until: Option<Instant>,
    last_messages: Option<Instant>,
    messages: usize,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        context: &'a Context,
        shutdown: &'a Shutdown,
        (memory, sparkplug): (&'a mut Memory, Option<&'a mut Sparkplug>),
        opened: Opened,
    ) -> Session<'a> {
        let (reader, writer) = tokio::io::split(opened.stream);
        let (mark_sender, marks) = watch::channel(0);
        let keep_alive = match opened.answer.terms.keep_alive {
            Some(seconds) if seconds > 0 => Duration::from_secs(u64::from(seconds)),
            _ => context.config.keep_alive,
        };
        let mut tick = tokio::time::interval((keep_alive / 4).min(TICK_MAX));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Session {
            context,
            shutdown,
            is_ending: false,
            session_present: opened.answer.session_present,
            terms: opened.answer.terms,
            memory,
            sparkplug,
            reconciliation: Reconciliation::new(0),
            subscribed: Subscribed::No,
            reader,
            writer,
            inbox: opened.inbox,
            decoder: opened.decoder,
            out: BytesMut::new(),
            unflushed_since: None,
            acks: Acks::default(),
            mark: 0,
            mark_sender: Arc::new(mark_sender),
            marks,
            chunk: Chunk::default(),
            tagger: Tagger::new(&context.config.user_properties),
            is_flooded: false,
            gather: Gather::new(if context.server_name.is_some() { GATHER_TLS_BYTES_MAX } else { GATHER_BYTES_MAX }),
            keep_alive,
            tick,
            last_sent: now,
            last_received: now,
            oversize_logged: None,
        }
    }

    /// Subscribes and receives until something ends it.
    pub(super) async fn run(mut self, link: &mut Link) -> End {
        link.accepted();
        link.files(self.context.credentials.problem());
        self.reconcile(link).await;
        if let Some(sparkplug) = &mut self.sparkplug {
            sparkplug.connected(Instant::now());
        }
        let Err(end) = self.receive(link).await;
        match &end {
            // What came before the garbage is acknowledged, or it would come again with the garbage for ever.
            End::Lost(ConnectionError::Codec { source, .. }) => self.finish(self.mark, source.reason()).await,
            End::Shutdown => self.finish(self.mark, NORMAL_END).await,
            End::PipelineEnded => self.finish(0, NORMAL_END).await,
            End::Lost(_) => {}
        }
        self.context.counters.unacknowledged.set(0);
        if let Some(sparkplug) = &mut self.sparkplug {
            sparkplug.save().await;
        }
        end
    }

    /// Asks for what the session at the broker lacks, and gives up what it has too much.
    async fn reconcile(&mut self, link: &mut Link) {
        let context = self.context;
        let (config, now) = (&context.config, context.clock.now());
        let asked = self.memory.reconcile(config, self.session_present, &self.terms, now, &mut self.out);
        self.reconciliation = asked.await;
        self.reconciliation.log(&config.name, self.session_present);
        if !self.out.is_empty() {
            self.sending();
        }
        self.check_answers(link);
    }

    fn check_answers(&mut self, link: &mut Link) {
        if self.subscribed == Subscribed::No && self.reconciliation.is_done() {
            self.subscribed = Subscribed::Answered;
            link.subscribed(&self.context.config, &self.terms, self.reconciliation.grants());
        }
    }

    async fn receive(&mut self, link: &mut Link) -> Result<std::convert::Infallible, End> {
        // Messages may have come right behind the CONNACK.
        self.take_packets(link).await?;
        loop {
            if self.subscribed == Subscribed::Answered {
                self.subscribed = Subscribed::Yes;
                let now = self.context.clock.now();
                self.memory.confirmed(&self.context.config.topics, &self.reconciliation, now).await;
            }
            match self.wait(Reading::Open).await {
                Event::Shutdown => return Err(End::Shutdown),
                Event::Read(read) => {
                    let bytes = self.received(read)?;
                    let read_at = self.last_received;
                    self.take_packets(link).await?;
                    self.gather.decide(bytes, read_at);
                }
                Event::Tick => {
                    self.check_silence()?;
                    link.files(self.context.credentials.problem());
                    self.handle(Event::Tick)?;
                }
                Event::NodesDue => {
                    self.save_births().await;
                    self.ask_nodes();
                }
                event => self.handle(event)?,
            }
        }
    }

    /// Waits for whatever comes next. May be dropped at any time: every part of it can be taken up again.
    async fn wait(&mut self, reading: Reading) -> Event {
        let may_read = reading == Reading::Open && self.out.len() < OUT_BYTES_MAX;
        let nodes_at = self.sparkplug.as_ref().filter(|_| may_read).and_then(|nodes| nodes.due_at());
        tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if !self.is_ending => Event::Shutdown,
            _ = self.marks.changed() => Event::Committed,
            _ = self.tick.tick() => Event::Tick,
            flushed = flush(&mut self.writer, &mut self.out), if self.unflushed_since.is_some() => {
                Event::Flushed(flushed)
            }
            () = tokio::time::sleep_until(nodes_at.unwrap_or_else(Instant::now)), if nodes_at.is_some() => Event::NodesDue,
            read = read(&mut self.reader, &mut self.inbox, self.gather.until), if may_read => Event::Read(read),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), ConnectionError> {
        match event {
            Event::Committed => {
                self.acknowledge();
            }
            Event::Tick => self.check_sending()?,
            Event::Flushed(Ok(())) => {
                self.unflushed_since = None;
                self.last_sent = Instant::now();
            }
            Event::Flushed(Err(source)) => return Err(self.broken(source)),
            Event::Shutdown | Event::Read(_) | Event::NodesDue => {}
        }
        Ok(())
    }

    fn received(&mut self, read: io::Result<usize>) -> Result<usize, ConnectionError> {
        let bytes = read.map_err(|source| self.broken(source))?;
        if bytes == 0 {
            return Err(ConnectionError::Closed { endpoint: self.context.endpoint.clone() });
        }
        self.last_received = Instant::now();
        Ok(bytes)
    }

    /// Takes every whole packet out of the buffer and submits the messages.
    async fn take_packets(&mut self, link: &mut Link) -> Result<(), End> {
        self.chunk.received_at = self.context.clock.now();
        self.gather.messages = 0;
        let mut inbox = mem::take(&mut self.inbox);
        let mut rest = inbox.unread();
        let result = self.take_all(&mut rest, link).await;
        let left = rest.len();
        inbox.keep(left);
        self.inbox = inbox;
        result
    }

    async fn take_all(&mut self, bytes: &mut &[u8], link: &mut Link) -> Result<(), End> {
        loop {
            match self.decoder.next(bytes) {
                Ok(Some(packet)) => {
                    if let Err(error) = self.take(packet, link) {
                        // What came before the last word of the broker counts.
                        self.submit().await?;
                        return Err(End::Lost(error));
                    }
                }
                Ok(None) => return self.submit().await,
                Err(source) => {
                    self.submit().await?;
                    return Err(End::Lost(self.garbled(source)));
                }
            }
            if self.chunk.is_full() {
                self.submit().await?;
            }
        }
    }

    fn take(&mut self, packet: Incoming<'_>, link: &mut Link) -> Result<(), ConnectionError> {
        match packet {
            Incoming::Publish(publish) => {
                self.gather.messages += 1;
                self.acks.push(publish.delivery);
                let tags = if self.tagger.is_wanted() { self.tagger.tags(publish.properties) } else { None };
                let payload = self.name_metrics(&publish);
                self.chunk.push(&publish, &payload, tags.as_ref(), &self.context.source);
            }
            Incoming::Oversize(oversize) => self.skipped(&oversize),
            Incoming::PubRel(packet_id) => {
                put_pubcomp(packet_id, &mut self.out);
                self.sending();
            }
            Incoming::SubAck(packet_id, grants) => {
                self.reconciliation.sub_ack(packet_id, grants).map_err(|source| self.garbled(source))?;
                self.check_answers(link);
            }
            Incoming::UnsubAck(packet_id, refused) => {
                self.reconciliation.unsub_ack(packet_id, &refused).map_err(|source| self.garbled(source))?;
                self.check_answers(link);
            }
            Incoming::PingResp => {}
            Incoming::ConnAck(_) => {
                let problem = "it comes a second time".to_owned();
                return Err(self.garbled(CodecError::Control { packet: "CONNACK", problem }));
            }
            Incoming::Disconnect(reason) => {
                return Err(ConnectionError::Disconnected { endpoint: self.context.endpoint.clone(), reason });
            }
        }
        Ok(())
    }

    /// Gives the metrics of Sparkplug their names, and asks a node for its birth where they are missing.
    fn name_metrics<'p>(&mut self, publish: &Publish<'p>) -> Cow<'p, [u8]> {
        let Some(sparkplug) = &mut self.sparkplug else { return Cow::Borrowed(publish.payload) };
        let now = (Instant::now(), self.chunk.received_at);
        let taken = sparkplug.take(&publish.topic, publish.payload, publish.flags, now);
        if let Some((topic, payload)) = taken.command {
            put_publish(self.context.config.version, &topic, &payload, &mut self.out);
            self.sending();
        }
        taken.payload
    }

    /// Asks nodes for births that did not come.
    fn ask_nodes(&mut self) {
        let Some(sparkplug) = &mut self.sparkplug else { return };
        let commands = sparkplug.asks_due(Instant::now(), self.context.clock.now());
        for (topic, payload) in &commands {
            put_publish(self.context.config.version, topic, payload, &mut self.out);
        }
        if !commands.is_empty() {
            self.sending();
        }
    }

    async fn save_births(&mut self) {
        if let Some(sparkplug) = &mut self.sparkplug {
            sparkplug.save_if_due().await;
        }
    }

    fn skipped(&mut self, oversize: &Oversize) {
        self.context.counters.oversize.inc();
        self.acks.push(oversize.delivery);
        let (source, topic, bytes) = (&*self.context.source, &*oversize.topic, oversize.bytes);
        let is_due = self.oversize_logged.is_none_or(|logged| logged.elapsed() >= OVERSIZE_LOG_INTERVAL);
        if is_due {
            self.oversize_logged = Some(Instant::now());
            warn!(source, topic, bytes, limit = self.context.config.packet_bytes_max, "message too long, skipped");
        } else {
            debug!(source, topic, bytes, "message too long, skipped");
        }
    }

    /// Hands the chunk to the pipeline. While that is full the connection is not read, but looked after.
    async fn submit(&mut self) -> Result<(), End> {
        if self.chunk.is_empty() {
            // Skipped messages are acknowledged in their turn: after all that came before them.
            self.acks.close(self.mark);
            self.acknowledge();
            return Ok(());
        }
        // What names later data is safe before the broker hears that we have it.
        self.save_births().await;
        let mark = self.mark + 1;
        let context = self.context;
        let receipt = Receipt::Mark(Arc::clone(&self.mark_sender), mark);
        let submission = context.intake.submit(self.chunk.take(), receipt);
        tokio::pin!(submission);
        loop {
            let event = tokio::select! {
                biased;
                submitted = &mut submission => {
                    submitted.map_err(|IntakeClosed| End::PipelineEnded)?;
                    break;
                }
                event = self.wait(Reading::Paused) => event,
            };
            match event {
                Event::Shutdown => return Err(End::Shutdown),
                event => self.handle(event)?,
            }
        }
        self.mark = mark;
        self.acks.close(mark);
        self.count_waiting();
        self.chunk.count(&context.counters);
        // Silence counts only while we listen.
        self.last_received = Instant::now();
        Ok(())
    }

    /// More than the receive maximum breaks MQTT 5, but leaving the broker would only bring the same again: all is taken.
    fn count_waiting(&mut self) {
        let config = &self.context.config;
        let waiting = self.acks.waiting();
        self.context.counters.unacknowledged.set(waiting as i64);
        let is_too_much = waiting > usize::from(config.receive_maximum);
        if is_too_much && config.version == MqttVersion::V5 && !self.is_flooded {
            self.is_flooded = true;
            warn!(source = %self.context.source, receive_maximum = config.receive_maximum, "the broker exceeds it");
        }
    }

    /// Puts the acknowledgements of everything durable into the next write; up to which mark that is.
    fn acknowledge(&mut self) -> u64 {
        let mark = *self.marks.borrow_and_update();
        let count = self.acks.release(mark, &mut self.out);
        if count > 0 {
            self.context.counters.acks.inc_by(count as u64);
            self.context.counters.unacknowledged.set(self.acks.waiting() as i64);
            self.sending();
        }
        mark
    }

    fn sending(&mut self) {
        self.unflushed_since.get_or_insert_with(Instant::now);
    }

    fn patience(&self) -> Duration {
        self.keep_alive.mul_f64(1.5)
    }

    fn check_silence(&self) -> Result<(), ConnectionError> {
        let silence = self.last_received.elapsed();
        let endpoint = || self.context.endpoint.clone();
        if silence > self.patience() {
            return Err(ConnectionError::Silent { endpoint: endpoint(), seconds: silence.as_secs() });
        }
        if self.subscribed == Subscribed::No && silence > CONNECT_TIMEOUT {
            return Err(ConnectionError::NoAnswer { step: "subscribe at", endpoint: endpoint() });
        }
        Ok(())
    }

    fn check_sending(&mut self) -> Result<(), ConnectionError> {
        if let Some(since) = self.unflushed_since {
            let seconds = since.elapsed().as_secs();
            let is_stalled = since.elapsed() > self.patience();
            let endpoint = self.context.endpoint.clone();
            return if is_stalled { Err(ConnectionError::Stalled { endpoint, seconds }) } else { Ok(()) };
        }
        if self.last_sent.elapsed() >= self.keep_alive / 2 {
            put_ping(&mut self.out);
            self.sending();
        }
        Ok(())
    }

    /// Waits, not for long, until everything up to `mark` is committed and acknowledged, and says goodbye.
    async fn finish(&mut self, mark: u64, reason: u8) {
        self.is_ending = true;
        if tokio::time::timeout(FINISH_WAIT, self.drain(mark, reason)).await.is_err() {
            warn!(source = %self.context.source, "end without the last acknowledgements: the broker sends them again");
        }
    }

    async fn drain(&mut self, mark: u64, reason: u8) {
        while self.acknowledge() < mark || self.unflushed_since.is_some() {
            let event = self.wait(Reading::Paused).await;
            if self.handle(event).is_err() {
                return;
            }
        }
        put_disconnect(self.context.config.version, reason, &mut self.out);
        let said = flush(&mut self.writer, &mut self.out).await;
        let closed = self.writer.shutdown().await;
        if let Err(error) = said.and(closed) {
            debug!(source = %self.context.source, %error, "the goodbye was not sent");
        }
    }

    fn broken(&self, source: io::Error) -> ConnectionError {
        ConnectionError::Broken { endpoint: self.context.endpoint.clone(), source }
    }

    fn garbled(&self, source: CodecError) -> ConnectionError {
        ConnectionError::Codec { endpoint: self.context.endpoint.clone(), source }
    }
}

impl Chunk {
    fn push(&mut self, publish: &Publish<'_>, payload: &[u8], tags: Option<&Tags>, source: &Arc<str>) {
        let qos = match publish.delivery {
            Delivery::Unacknowledged => 0,
            Delivery::Acknowledged(_) => 1,
            Delivery::Handshake(_) => 2,
        };
        self.messages[qos] += 1;
        self.redelivered += u64::from(publish.flags.redelivered);
        self.payload_bytes += publish.payload.len() as u64;
        let (received_at, (messages, bytes)) = (self.received_at, self.room);
        let frames =
            self.frames.get_or_insert_with(|| Frames::with_capacity(Arc::clone(source), received_at, messages, bytes));
        frames.push(&publish.topic, payload, publish.flags, tags);
    }

    fn is_empty(&self) -> bool {
        self.frames.is_none()
    }

    fn is_full(&self) -> bool {
        let is_full = |frames: &Frames| frames.len() >= CHUNK_MESSAGES_MAX || frames.content_bytes() >= CHUNK_BYTES_MAX;
        self.frames.as_ref().is_some_and(is_full)
    }

    /// The frames; the next ones get as much room at once.
    fn take(&mut self) -> Vec<Input> {
        let Some(frames) = self.frames.take() else { return Vec::new() };
        self.room = (frames.len(), frames.content_bytes());
        vec![Input::Frames(frames)]
    }

    fn count(&mut self, counters: &Counters) {
        for (counter, count) in counters.messages.iter().zip(mem::take(&mut self.messages)) {
            counter.inc_by(count);
        }
        counters.bytes.inc_by(mem::take(&mut self.payload_bytes));
        counters.redelivered.inc_by(mem::take(&mut self.redelivered));
    }
}

impl Gather {
    fn new(bytes_max: usize) -> Gather {
        Gather { bytes_max, until: None, last_messages: None, messages: 0 }
    }

    /// After a read that brought `bytes`. A lone message makes nobody wait: several came, or one on the heels of another.
    fn decide(&mut self, bytes: usize, now: Instant) {
        self.until = None;
        if self.messages == 0 {
            return;
        }
        let follows = self.last_messages.is_some_and(|last| now.duration_since(last) <= GATHER_WAIT);
        if (self.messages > 1 || follows) && bytes <= self.bytes_max {
            self.until = Some(now + GATHER_WAIT);
        }
        self.last_messages = Some(now);
    }
}

/// Sends what is in `out`, in one write if the connection takes it. What was sent is gone from `out` even if the call
/// is dropped half way.
async fn flush(writer: &mut WriteHalf<Stream>, out: &mut BytesMut) -> io::Result<()> {
    while !out.is_empty() {
        writer.write_buf(out).await?;
    }
    writer.flush().await
}

async fn read(reader: &mut ReadHalf<Stream>, inbox: &mut Inbox, until: Option<Instant>) -> io::Result<usize> {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
    let count = reader.read(inbox.spare()).await?;
    inbox.filled(count);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(gather: &mut Gather, at: Instant, messages: usize, bytes: usize) -> bool {
        gather.messages = messages;
        gather.decide(bytes, at);
        gather.until.is_some()
    }

    #[tokio::test]
    async fn the_next_read_waits_only_while_messages_follow_each_other() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut gather = Gather::new(GATHER_BYTES_MAX);
        assert!(!waits(&mut gather, start, 1, 100), "a lone message");
        assert!(!waits(&mut gather, after(1), 0, 2), "a ping's answer");
        assert!(waits(&mut gather, after(2), 1, 100), "one on the heels of another");
        assert!(!waits(&mut gather, after(50), 1, 100), "a lone message again");
        assert!(waits(&mut gather, after(100), 2, 200), "several");
        assert!(!waits(&mut gather, after(103), 300, 120_000), "a full read");
        let mut gather = Gather::new(GATHER_TLS_BYTES_MAX);
        assert!(!waits(&mut gather, after(104), 80, 16_000), "a full TLS record");
    }
}

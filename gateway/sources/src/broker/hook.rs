//! What the embedded broker does with a message before it acknowledges it: hand it to the intake and wait for the
//! commit. Keeps nothing; a message that is not committed is not acknowledged, and the device sends it again.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{ByteText, Frame, Input, Payload};
use kerbside_runtime::{Clock, Intake, IntakeClosed, Receipt, Shutdown};
use mqtt5::QoS;
use mqtt5::broker::{ClientPublishEvent, PublishAction};
use mqtt5::packet::publish::PublishPacket;

use super::tally::Tally;

/// How long the end of the gateway waits for the commits of messages that are on their way.
const FINISH_WAIT: Duration = Duration::from_secs(3);
/// A topic that nobody can subscribe by a wildcard.
const NOWHERE: &str = "$kerbside/nowhere";

/// Waits for the commit of every message.
#[derive(Debug)]
pub(super) struct Hook {
    source: Arc<str>,
    intake: Intake,
    clock: Clock,
    tally: Arc<Tally>,
    shutdown: Shutdown,
    pipeline_ended: Shutdown,
}

impl Hook {
    pub(super) fn new(source: &str, intake: Intake, clock: Clock, tally: Arc<Tally>) -> Hook {
        let source = Arc::from(source);
        Hook { source, intake, clock, tally, shutdown: Shutdown::new(), pipeline_ended: Shutdown::new() }
    }

    /// The same, giving up soon after `shutdown`.
    pub(super) fn until(self, shutdown: Shutdown) -> Hook {
        Hook { shutdown, ..self }
    }

    /// Holds a message back; no longer than the gateway runs.
    pub(super) async fn pause(&self, span: Duration) {
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Told when a message found that the pipeline has ended.
    pub(super) fn pipeline_ended(&self) -> Shutdown {
        self.pipeline_ended.clone()
    }

    /// Returns when the message may be acknowledged and sent on.
    pub(super) async fn take(&self, event: ClientPublishEvent) -> PublishAction {
        let handed_over = tokio::select! {
            handed_over = self.hand_over(&event) => handed_over,
            () = self.gives_up() => return without_acknowledgement(),
        };
        match handed_over {
            Ok(()) => {
                self.tally.taken(event.qos, event.topic.len() + event.payload.len());
                routed(event)
            }
            Err(IntakeClosed) => {
                self.pipeline_ended.cancel();
                without_acknowledgement()
            }
        }
    }

    /// Returns when the message is durable; at QoS 0, where nobody waits for an answer, when there was room for it.
    async fn hand_over(&self, event: &ClientPublishEvent) -> Result<(), IntakeClosed> {
        let frame = Input::Frame(Frame {
            source: Arc::clone(&self.source),
            address: ByteText::from(&*event.topic),
            payload: Payload::Bytes(event.payload.clone()),
            received_at: self.clock.now(),
            // The device speaks to us now; what it asks others to be told later does not make it old.
            retained: false,
        });
        match event.qos {
            QoS::AtMostOnce => self.intake.submit(vec![frame], Receipt::None).await,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.intake.submit_durably(vec![frame]).await,
        }
    }

    async fn gives_up(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(FINISH_WAIT).await;
    }
}

/// Acknowledged and sent on to subscribers. Nothing is retained: the broker would keep it in memory without a limit,
/// or refuse it without telling a device that speaks MQTT 3.1.1.
fn routed(event: ClientPublishEvent) -> PublishAction {
    if !event.retain {
        return PublishAction::Continue;
    }
    let mut packet = PublishPacket::new(&*event.topic, event.payload, event.qos);
    packet.packet_id = event.packet_id;
    PublishAction::Transform(packet)
}

/// The broker acknowledges every message that comes back from here, but for one at QoS 0: so it gets such a one,
/// addressed to nobody. The device keeps its own and sends it again on its next connection.
fn without_acknowledgement() -> PublishAction {
    PublishAction::Transform(PublishPacket::new(NOWHERE, Vec::new(), QoS::AtMostOnce))
}

//! A channel that tells nobody: for demonstrations, and for sites without a robot.
//!
//! Each letter is logged and counts as sent; the console shows the case itself.

use async_trait::async_trait;
use tracing::info;

use crate::channels::limiter::RateLimit;
use crate::channels::{Channel, Letter, SendOutcome, Sender, text};

#[derive(Debug)]
pub(crate) struct Show {
    pub(crate) sender: Sender,
}

#[async_trait]
impl Channel for Show {
    fn name(&self) -> &str {
        &self.sender.name
    }

    fn rate_limit(&self) -> RateLimit {
        RateLimit::default()
    }

    fn letters_max(&self) -> usize {
        1
    }

    async fn send(&self, letters: &[Letter]) -> SendOutcome {
        for letter in letters {
            info!(
                channel = %self.sender.name,
                case = %letter.notice.report.case_id,
                title = %text::title(letter),
                reason = %text::reason_en(letter),
                "notice shown"
            );
        }
        SendOutcome::Sent { letters: letters.len() }
    }
}

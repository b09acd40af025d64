//! Why a request has no answer.

use std::io;
use std::time::Duration;

use tokio_modbus::ExceptionCode;

/// Why a request has no words.
#[derive(Debug, thiserror::Error)]
pub(in crate::modbus) enum ReadError {
    #[error("{0}")]
    Connect(String),
    #[error("timeout after {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("{}", exception_words(u8::from(*.0)))]
    Exception(ExceptionCode),
    #[error("answer of {answered} values where {asked} were asked for")]
    Length { answered: usize, asked: usize },
    #[error("answer to another request")]
    Mismatch,
    #[error("answer is not modbus")]
    NotModbus,
    #[error("the line is never silent")]
    Babble,
    #[error("connection lost")]
    Lost(#[source] io::Error),
}

impl ReadError {
    /// Whether the unit itself answered: a gateway's "the unit does not answer" (10, 11) is no answer.
    pub(in crate::modbus) fn is_answer(&self) -> bool {
        use ExceptionCode::{GatewayPathUnavailable, GatewayTargetDevice};
        matches!(self, ReadError::Exception(code) if !matches!(code, GatewayPathUnavailable | GatewayTargetDevice))
    }

    /// Whether the unit says that these registers are not to be had, or not so many at once.
    pub(in crate::modbus) fn is_illegal_data(&self) -> bool {
        use ExceptionCode::{IllegalDataAddress, IllegalDataValue};
        matches!(self, ReadError::Exception(IllegalDataAddress | IllegalDataValue))
    }
}

/// Number and meaning of an exception, as in [`RegisterFailure::EXCEPTION`](kerbside_model::RegisterFailure::EXCEPTION).
pub(in crate::modbus) fn exception_words(exception: u8) -> String {
    format!("exception {exception} ({})", exception_text(ExceptionCode::new(exception)))
}

/// What the codes mean (Modbus Application Protocol V1.1b3, section 7).
fn exception_text(code: ExceptionCode) -> &'static str {
    match code {
        ExceptionCode::IllegalFunction => "illegal function",
        ExceptionCode::IllegalDataAddress => "illegal data address",
        ExceptionCode::IllegalDataValue => "illegal data value",
        ExceptionCode::ServerDeviceFailure => "device failure",
        ExceptionCode::Acknowledge => "acknowledge",
        ExceptionCode::ServerDeviceBusy => "device busy",
        ExceptionCode::MemoryParityError => "memory parity error",
        ExceptionCode::GatewayPathUnavailable => "gateway path unavailable",
        ExceptionCode::GatewayTargetDevice => "gateway target device does not answer",
        ExceptionCode::Custom(_) => "not in the specification",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_words_and_a_gateway_that_cannot_reach_a_unit_is_no_answer() {
        let address = ReadError::Exception(ExceptionCode::IllegalDataAddress);
        assert_eq!(address.to_string(), "exception 2 (illegal data address)");
        assert!(address.is_answer() && address.is_illegal_data());
        let target = ReadError::Exception(ExceptionCode::GatewayTargetDevice);
        assert!(!target.is_answer() && !target.is_illegal_data());
        let timeout = ReadError::Timeout(Duration::from_millis(500));
        assert_eq!(timeout.to_string(), "timeout after 500 ms");
    }
}

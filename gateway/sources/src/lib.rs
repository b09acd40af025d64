//! Where frames come from. Each source turns what a protocol delivers into [`kerbside_model::Frame`]s and hands them to
//! the intake; it acknowledges upstream only when the receipt is honoured.

pub mod broker;
pub mod modbus;
pub mod mqtt;

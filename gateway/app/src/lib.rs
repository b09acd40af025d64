//! The gateway as one program: configuration, wiring, interfaces for people. The only crate that sees all others.

pub mod api;
pub mod cli;
pub mod config;
pub mod console;
pub mod gateway;
mod html;
pub mod live;
pub mod pipeline;
pub mod reload;
pub mod shelf;
pub mod shipped;
#[cfg(test)]
mod tidy;
pub mod trial;
mod walk;
pub mod wiretap;

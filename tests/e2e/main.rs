//! End to end: drives the real `kerbside` against stand-ins and real counterparts, and kills it in the middle.
//!
//! What needs only this process runs with plain `cargo test`. Tests against Mosquitto, VictoriaMetrics, pymodbus or
//! libmodbus are marked ignored; `tests/run` installs those and runs them. Every test has a folder, ports and processes
//! of its own; nothing waits blindly, see `wait.rs`.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![expect(clippy::print_stderr, reason = "the gateway's log and the times measured belong into the test's output")]

mod bus;
mod city;
mod disk;
mod external;
mod gateway;
mod influx;
mod publisher;
mod robot;
mod traffic;
mod wait;

mod alone;
mod backtests;
mod channels;
mod commands;
mod commissioning;
mod database;
mod demo;
mod frames;
mod incidents;
mod installer;
mod interface;
mod kills;
mod latency;
mod lorawan;
mod loss;
mod main_job;
mod mishaps;
mod modbus_isolation;
mod modbus_links;
mod modbus_servers;
mod overrides;
mod platform;
mod poll;
mod records;
mod reload;
mod restart;
mod senders;
mod sparkplug;

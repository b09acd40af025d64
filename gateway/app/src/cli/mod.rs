//! The commands of `kerbside`. Each turns its arguments into an exit code and what it prints.

pub mod check;
mod trial;

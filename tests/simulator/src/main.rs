//! The simulator's command line: a district on real sockets, and the load tools of `just bench`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kerbside_runtime::logging::LogFormat;
use kerbside_runtime::{Clock, Secret, Shutdown};
use kerbside_simulator::load::{FireConfig, FireQuality, bench_inventory_csv, fire, serve_sink};
use kerbside_simulator::{BrokerAccount, BrokerAddress, District, DistrictConfig, publish_to, serve_modbus};

/// A simulated district and the load tools of Kerbside.
#[derive(Debug, Parser)]
#[command(name = "kerbside-simulator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the simulated district against a broker, and serve its Modbus bus.
    District {
        #[command(flatten)]
        size: Size,
        /// Broker as host:port.
        #[arg(long)]
        broker: String,
        #[command(flatten)]
        account: Account,
        /// Where the Modbus TCP bus listens; without it there is none.
        #[arg(long)]
        modbus_listen: Option<SocketAddr>,
        /// Simulated seconds per second.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
    },
    /// Print the inventory of the district, or that of the bench.
    Inventory {
        #[command(flatten)]
        size: Size,
        /// Print the bench's inventory of this many devices instead.
        #[arg(long)]
        bench: Option<usize>,
    },
    /// Print what will go wrong in the district, one JSON line an event.
    Script {
        #[command(flatten)]
        size: Size,
    },
    /// Fire messages of the bench at a broker and print one JSON line.
    Fire {
        /// Broker as host:port.
        #[arg(long)]
        broker: String,
        #[command(flatten)]
        account: Account,
        /// How many messages.
        #[arg(long)]
        count: u64,
        /// 0 or 1.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
        qos: u8,
        /// How many devices take turns.
        #[arg(long, default_value_t = 10_000)]
        devices: usize,
        /// Messages per second; without it as fast as the broker takes them.
        #[arg(long)]
        rate: Option<u64>,
        /// First sequence number.
        #[arg(long, default_value_t = 0)]
        first_sequence: u64,
        /// Most messages unacknowledged at a time.
        #[arg(long, default_value_t = 2_000)]
        window: u16,
        /// MQTT client id.
        #[arg(long, default_value = "kerbside-fire")]
        client_id: String,
    },
    /// Count what is written as to InfluxDB 2.
    Sink {
        /// Where to listen; port 0 takes a free one, which is printed.
        #[arg(long, default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))]
        listen: SocketAddr,
        /// Where the switches answer even while the sink is down.
        #[arg(long)]
        admin: Option<SocketAddr>,
    },
}

#[derive(Debug, clap::Args)]
struct Size {
    /// Everything that looks random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of manhole covers.
    #[arg(long, default_value_t = 60)]
    covers: usize,
    /// Number of smart poles.
    #[arg(long, default_value_t = 30)]
    poles: usize,
    /// Number of drain-level sensors.
    #[arg(long, default_value_t = 20)]
    drains: usize,
}

#[derive(Debug, clap::Args)]
struct Account {
    /// User name at the broker.
    #[arg(long)]
    username: Option<String>,
    /// File whose first line is the password.
    #[arg(long, requires = "username")]
    password_file: Option<PathBuf>,
}

impl Size {
    fn district(&self, clock: Clock) -> District {
        let config = DistrictConfig {
            covers: self.covers,
            poles: self.poles,
            drains: self.drains,
            ..DistrictConfig::demo(self.seed, clock)
        };
        District::new(config)
    }
}

impl Account {
    fn read(self) -> std::io::Result<Option<BrokerAccount>> {
        let Some(username) = self.username else { return Ok(None) };
        let password = match self.password_file {
            Some(path) => std::fs::read_to_string(path)?.lines().next().unwrap_or("").to_owned(),
            None => String::new(),
        };
        Ok(Some(BrokerAccount { username, password: Secret::new(password) }))
    }
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    kerbside_runtime::logging::start(LogFormat::Text, "info");
    // One thread: the tools share the machine with what they measure.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(Arguments::parse().command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

#[expect(clippy::print_stderr, reason = "the command line tells its user why it failed")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {}", kerbside_runtime::Chain(error));
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the command's output")]
async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::District { size, broker, account, modbus_listen, speed } => {
            run_district(&size, broker_address(&broker)?, account.read()?, modbus_listen, speed).await
        }
        Command::Inventory { size, bench } => {
            let text = bench.map_or_else(|| size.district(Clock::System).inventory_csv(), bench_inventory_csv);
            print!("{text}");
            Ok(())
        }
        Command::Script { size } => {
            for event in size.district(Clock::System).script() {
                println!("{}", serde_json::to_string(&event)?);
            }
            Ok(())
        }
        Command::Fire { broker, account, count, qos, devices, rate, first_sequence, window, client_id } => {
            let quality = if qos == 0 { FireQuality::AtMostOnce } else { FireQuality::AtLeastOnce };
            let account = account.read()?;
            let base = FireConfig::new(broker_address(&broker)?, count);
            let report =
                fire(FireConfig { account, quality, devices, rate, first_sequence, window, client_id, ..base }).await?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
        Command::Sink { listen, admin } => {
            let shutdown = Shutdown::new();
            let sink = serve_sink(listen, admin, shutdown.clone()).await?;
            println!("{}", sink.local_addr());
            asked_to_end().await?;
            shutdown.cancel();
            Ok(())
        }
    }
}

async fn run_district(
    size: &Size,
    broker: BrokerAddress,
    account: Option<BrokerAccount>,
    modbus_listen: Option<SocketAddr>,
    speed: f64,
) -> Result<(), Failure> {
    if !(speed.is_finite() && speed > 0.0) {
        return Err("--speed must be greater than 0".into());
    }
    let clock = if speed == 1.0 { Clock::System } else { Clock::scaled(Clock::System.now(), speed) };
    let district = size.district(clock).shared();
    let shutdown = Shutdown::new();
    if let Some(listen) = modbus_listen {
        let units = serve_modbus(std::sync::Arc::clone(&district), listen, shutdown.clone()).await?;
        tracing::info!(address = %units.local_addr(), "simulated bus listens");
    }
    let published = tokio::spawn(publish_to(district, broker, account, shutdown.clone()));
    asked_to_end().await?;
    shutdown.cancel();
    published.await?;
    Ok(())
}

fn broker_address(text: &str) -> Result<BrokerAddress, Failure> {
    let (host, port) = text.rsplit_once(':').ok_or("--broker must be host:port")?;
    Ok(BrokerAddress { host: host.trim_matches(['[', ']']).to_owned(), port: port.parse()? })
}

/// Waits for Ctrl-C or for the service manager.
async fn asked_to_end() -> std::io::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}

//! Turns Modbus TCP requests into registers of the simulated district, on a real socket.
//!
//! One listener stands for a bus with a gateway in front of it: the unit number chooses the device. Units can be made
//! sick for tests. Nothing survives a restart; there are no metrics, but requests are counted by unit.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kerbside_runtime::{Chain, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tracing::{debug, warn};

use crate::SimulatorError;
use crate::district::SharedDistrict;
use crate::registers::{RegisterRefusal, WordTable};

/// Connections at one time; cheap gateways have four, tests need some more.
const CONNECTIONS_MAX: usize = 32;

/// What is wrong with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitFault {
    /// It takes the request and never answers.
    NoAnswer,
    /// It answers after this.
    Slow(Duration),
    /// It answers with this exception code.
    Refuses(u8),
}

/// A simulated bus that is being served.
#[derive(Clone, Debug)]
pub struct ModbusUnits {
    local_addr: SocketAddr,
    sickness: Arc<Mutex<Sickness>>,
}

#[derive(Debug, Default)]
struct Sickness {
    faults: HashMap<u8, UnitFault>,
    requests: HashMap<u8, u64>,
}

impl ModbusUnits {
    /// Where the bus listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Makes a unit sick, or well again with `None`.
    pub fn set_fault(&self, unit: u8, fault: Option<UnitFault>) {
        let mut sickness = self.sickness.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => sickness.faults.insert(unit, fault),
            None => sickness.faults.remove(&unit),
        };
    }

    /// How many requests a unit has had.
    pub fn requests(&self, unit: u8) -> u64 {
        let sickness = self.sickness.lock().unwrap_or_else(PoisonError::into_inner);
        sickness.requests.get(&unit).copied().unwrap_or(0)
    }
}

/// Serves the district's Modbus units until shutdown; it listens when this returns.
pub async fn serve_modbus(
    district: SharedDistrict,
    listen: SocketAddr,
    shutdown: Shutdown,
) -> Result<ModbusUnits, SimulatorError> {
    let fail = |cause| SimulatorError::Listen { address: listen, cause };
    let listener = TcpListener::bind(listen).await.map_err(fail)?;
    let local_addr = listener.local_addr().map_err(fail)?;
    let sickness = Arc::new(Mutex::new(Sickness::default()));
    let units = ModbusUnits { local_addr, sickness: Arc::clone(&sickness) };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        let on_connected = |stream, _| {
            let permit = Arc::clone(&places).try_acquire_owned().ok();
            let service = permit.map(|permit| BusService {
                district: Arc::clone(&district),
                sickness: Arc::clone(&sickness),
                _permit: permit,
            });
            async move { Ok(service.map(|service| (service, stream))) }
        };
        let on_error = |error: std::io::Error| debug!(error = %Chain(&error), "simulated bus lost a connection");
        let served = Server::new(listener).serve_until(&on_connected, on_error, shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            warn!(error = %Chain(&error), "simulated bus ended");
        }
    });
    Ok(units)
}

struct BusService {
    district: SharedDistrict,
    sickness: Arc<Mutex<Sickness>>,
    _permit: OwnedSemaphorePermit,
}

type Answer = Result<Option<Response>, ExceptionCode>;

impl Service for BusService {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: SlaveRequest<'static>) -> Self::Future {
        let unit = request.slave;
        let fault = {
            let mut sickness = self.sickness.lock().unwrap_or_else(PoisonError::into_inner);
            *sickness.requests.entry(unit).or_default() += 1;
            sickness.faults.get(&unit).copied()
        };
        let answer = match fault {
            Some(UnitFault::NoAnswer) => Ok(None),
            Some(UnitFault::Refuses(code)) => Err(ExceptionCode::new(code)),
            Some(UnitFault::Slow(_)) | None => self.answer(unit, &request.request).map(Some),
        };
        Box::pin(async move {
            if let Some(UnitFault::Slow(wait)) = fault {
                tokio::time::sleep(wait).await;
            }
            answer
        })
    }
}

impl BusService {
    fn answer(&self, unit: u8, request: &Request<'static>) -> Result<Response, ExceptionCode> {
        let (table, address, count) = match request {
            Request::ReadHoldingRegisters(address, count) => (WordTable::Holding, *address, *count),
            Request::ReadInputRegisters(address, count) => (WordTable::Input, *address, *count),
            _ => return Err(ExceptionCode::IllegalFunction),
        };
        let district = self.district.lock().unwrap_or_else(PoisonError::into_inner);
        let now = district.clock().now();
        match district.registers(unit, table, (address, count), now) {
            Ok(words) if table == WordTable::Holding => Ok(Response::ReadHoldingRegisters(words)),
            Ok(words) => Ok(Response::ReadInputRegisters(words)),
            Err(RegisterRefusal::NoSuchUnit(_)) => Err(ExceptionCode::GatewayTargetDevice),
            Err(RegisterRefusal::NoSuchTable(_)) => Err(ExceptionCode::IllegalFunction),
            Err(RegisterRefusal::NoSuchRegisters { .. }) => Err(ExceptionCode::IllegalDataAddress),
        }
    }
}

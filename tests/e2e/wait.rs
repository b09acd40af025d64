//! Waits for a state with a deadline, and says at the deadline what the state was.

use std::future::Future;
use std::time::Duration;

use kerbside_runtime::Clock;

/// How often the state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Long enough for anything that happens at once, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Asks until the answer is `Ok`. Panics at the deadline with the last `Err`.
pub(crate) async fn wait_until<T, Fut>(what: &str, within: Duration, mut look: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Result<T, String>>,
{
    let began = Clock::stamp();
    loop {
        let last_state = match look().await {
            Ok(found) => return found,
            Err(state) => state,
        };
        assert!(began.elapsed() < within, "{what}: not within {within:?}; last state: {last_state}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The same for a state in this process.
pub(crate) async fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    wait_until(what, within, || std::future::ready(look())).await
}

/// Watches for a while that a state stays as it is: for what must not happen.
pub(crate) async fn stays<Fut>(what: &str, during: Duration, mut look: impl FnMut() -> Fut)
where
    Fut: Future<Output = Result<(), String>>,
{
    let began = Clock::stamp();
    while began.elapsed() < during {
        if let Err(state) = look().await {
            panic!("{what}: no longer after {:?}: {state}", began.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

//! Incidents from the bus to the API: one case for a storm, also after the power went.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_runtime::Clock;
use serde_json::json;

use crate::bus::{Bus, Unit};
use crate::gateway::Site;

const INVENTORY: &str = "\
id,profile,source,address,interval,parent
LV-1,qdy30a-level,bus,1,500ms,basin
LV-2,qdy30a-level,bus,2,500ms,basin
";

/// What a QDY30A holds from register 2 on: unit, decimals, level.
fn probe(level: u16) -> Unit {
    Unit::Answers(BTreeMap::from([(2, 17), (3, 1), (4, level)]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rainstorm_signal_flooded_drains_are_one_case_and_a_crash_changes_nothing() {
    let bus = Bus::start(&[(1, probe(100)), (2, probe(100))]).await;
    let mut site = Site::new(INVENTORY);
    let source = format!("  bus: {{type: modbus, host: 127.0.0.1, port: {}}}\n", bus.port);
    site.configure(&format!("sources:\n{source}{}", site.embedded_broker()));
    let gateway = site.start().await;
    let until = Clock::System.now().plus(Duration::from_secs(3_600));
    for (until, status, words) in [(until.plus(Duration::from_secs(4 * 86_400)), 400, "3 days"), (until, 200, "orange")]
    {
        let signal = json!({ "level": "orange", "until": until.to_string(), "by": "wang" });
        let answer = gateway.post("/api/v1/rain-signal", &signal).await;
        assert!(answer.status == status && answer.text.contains(words), "{answer:?}");
    }
    assert_eq!(gateway.get("/api/v1/rain-signal").await.ok()["level"], "orange");
    bus.set(1, 4, 450);
    bus.set(2, 4, 450);
    let path = "/api/v1/incidents";
    let incidents = gateway
        .wait_for_items("both are in one storm", path, |items| {
            items.len() == 1 && items[0]["standing"] == json!(["LV-1", "LV-2"])
        })
        .await;
    let cases = gateway.items("/api/v1/cases").await;
    assert_eq!(cases.len(), 1, "{cases:?}");
    assert_eq!((&cases[0]["condition"], &cases[0]["device"]), (&json!("storm"), &json!("basin")), "{cases:?}");
    assert_eq!(incidents[0]["case_id"], cases[0]["id"]);
    let alarms = gateway.items("/api/v1/alarms?condition=surcharged").await;
    assert!(alarms.iter().all(|alarm| alarm["suppressed"] == json!("incident")), "{alarms:?}");
    assert_eq!(gateway.metric("kerbside_incidents_open", &["kind=\"storm\""]).await, 1.0);
    gateway.kill();
    let gateway = site.start().await;
    let after = gateway.wait_for_items("the storm is still there", path, |items| items.len() == 1).await;
    assert_eq!((&after[0]["id"], &after[0]["case_id"]), (&incidents[0]["id"], &incidents[0]["case_id"]));
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 1);
    gateway.stop().await;
}

//! The main job: a frame from a device becomes a reading in the database, an alarm, a case, a message on a phone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::city::City;
use crate::external::{Mosquitto, Victoria};
use crate::gateway::{Gateway, Site};
use crate::influx::Influx;
use crate::publisher::Publisher;
use crate::robot::{Robot, sign_link};
use crate::wait::{SOON, stays, wait_until};

/// One cover with everything that an inventory says of it.
pub(crate) const COVER: &str = "\
id,profile,address,name,lon,lat,place,grid,component_code,unit
MH-1,json-manhole-cover,MH-1,雨水井盖1号,114.29,35.74,鹤栖大道与云溪路交叉口,410699001001001,4106990103000001,市政管理处
";
pub(crate) const TOPIC: &str = "city/d01/manhole/MH-1/up";
/// The second step of the escalation in these tests.
const ESCALATION_AFTER: Duration = Duration::from_secs(6);

pub(crate) fn cover_message(open: bool) -> String {
    let tilt = if open { 62.0 } else { 1.2 };
    json!({ "deviceId": "MH-1", "open": open, "tilt": tilt, "water": false, "batt": 3.58, "rssi": -97, "temp": 18.4 })
        .to_string()
}

/// Two steps to the same robot.
fn duty(robot: &Robot) -> String {
    let seconds = ESCALATION_AFTER.as_secs();
    format!(
        "channels: {{{}}}\nduty: {{steps: [{{after: 0s, channels: [ops]}}, {{after: {seconds}s, channels: [ops]}}]}}\n",
        robot.channel()
    )
}

async fn wait_for_reading(gateway: &Gateway, open: bool) -> Value {
    let of_cover = |item: &&Value| item["point"] == "cover_open" && item["value"] == open;
    let items = gateway
        .wait_for_items("the cover's reading", "/api/v1/readings?device=MH-1", |items| {
            items.iter().any(|item| of_cover(&item))
        })
        .await;
    items.iter().find(of_cover).unwrap().clone()
}

async fn wait_for_case(gateway: &Gateway, state: &str) -> Value {
    let items = gateway
        .wait_for_items(&format!("the case is {state}"), "/api/v1/cases", |items| {
            items.len() == 1 && items[0]["state"] == state
        })
        .await;
    items[0].clone()
}

async fn wait_for_alarm(gateway: &Gateway, state: &str) -> Value {
    let path = "/api/v1/alarms?condition=displaced";
    let items = gateway
        .wait_for_items(&format!("the alarm is {state}"), path, |items| items.len() == 1 && items[0]["state"] == state)
        .await;
    items[0].clone()
}

/// From closed to open: reading, one alarm, one case at the platform, one push with a link.
async fn the_cover_opens(gateway: &Gateway, publisher: &Publisher, city: &City, robot: &Robot) -> String {
    publisher.publish_acknowledged(TOPIC, cover_message(false)).await;
    let reading = wait_for_reading(gateway, false).await;
    assert_eq!(reading["quality"], "good");
    assert_eq!(gateway.items("/api/v1/alarms").await, Vec::<Value>::new());

    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    wait_for_reading(gateway, true).await;
    let alarm = wait_for_alarm(gateway, "active").await;
    assert_eq!((&alarm["severity"], &alarm["device"]), (&json!("critical"), &json!("MH-1")));
    // A second message about the same hole is neither a second alarm nor a second case.
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;

    let requests = city.wait_for_requests(1).await;
    let fields = &requests[0].fields;
    assert_eq!(fields["service_code"], "007");
    assert!(fields["description"].contains("鹤栖大道与云溪路交叉口"), "{}", fields["description"]);
    assert_eq!((fields["lat"].as_str(), fields["long"].as_str()), ("35.740000", "114.290000"));
    let case = wait_for_case(gateway, "reported").await;
    assert_eq!(case["platform_id"], requests[0].id.as_str());
    assert_eq!(case["id"], requests[0].reference());
    assert_eq!(alarm["case_id"], case["id"]);

    let taken = robot.wait_for_taken(1).await;
    assert!(taken[0].contains("鹤栖大道与云溪路交叉口"), "{}", taken[0]);
    sign_link(&taken[0])
}

/// The officer opens the link, which changes nothing, and signs, which stops the escalation.
async fn the_officer_signs(gateway: &Gateway, link: &str, robot: &Robot) {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let page = client.get(link).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("签收") && page.contains("鹤栖大道与云溪路交叉口"), "{page}");
    assert_eq!(wait_for_case(gateway, "reported").await["signed"], Value::Null, "looking is not signing");

    let forged = client.get(format!("{link}x")).send().await.unwrap();
    assert_eq!(forged.status().as_u16(), 404);

    let signed = client.post(link).form(&[("by", "王芳")]).send().await.unwrap();
    assert_eq!(signed.status().as_u16(), 200);
    assert!(signed.text().await.unwrap().contains("已签收"));
    assert_eq!(wait_for_case(gateway, "signed").await["signed"]["by"], "王芳");
    // A second signature does not replace the first.
    client.post(link).form(&[("by", "赵强")]).send().await.unwrap();
    assert_eq!(wait_for_case(gateway, "signed").await["signed"]["by"], "王芳");

    stays("nobody is called after the signature", ESCALATION_AFTER + Duration::from_secs(2), || async {
        let count = robot.taken().len();
        if count == 1 { Ok(()) } else { Err(format!("{count} messages")) }
    })
    .await;
}

/// From open to closed: the alarm clears; the platform decides about the case, and its word is read back.
async fn the_cover_closes(gateway: &Gateway, publisher: &Publisher, city: &City, robot: &Robot) {
    publisher.publish_acknowledged(TOPIC, cover_message(false)).await;
    let alarm = wait_for_alarm(gateway, "cleared").await;
    assert!(alarm["cleared_at"].is_string(), "{alarm}");
    assert_eq!(wait_for_case(gateway, "signed").await["standing"], false);

    let requests = city.requests();
    city.close(&requests[0].id);
    let case = wait_for_case(gateway, "closed").await;
    let states: Vec<&str> =
        case["history"].as_array().unwrap().iter().filter_map(|event| event["state"].as_str()).collect();
    for state in ["pending", "reported", "signed", "closed"] {
        assert!(states.contains(&state), "{state} is missing in {states:?}");
    }
    assert_eq!((city.requests().len(), city.posts(), robot.taken().len()), (1, 1, 1));
    assert_eq!(gateway.items("/api/v1/alarms").await.len(), 1);
    city.assert_content();
    robot.assert_content();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cover_is_walked_from_closed_to_open_to_closed_with_everything_embedded() {
    let (influx, city, robot) = (Influx::start().await, City::start().await, Robot::start().await);
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", site.embedded_broker());
    site.configure(&[sources, Influx::config(influx.port()), City::config(city.port(), "xml"), duty(&robot)].concat());
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");

    let link = the_cover_opens(&gateway, &publisher, &city, &robot).await;
    the_officer_signs(&gateway, &link, &robot).await;
    the_cover_closes(&gateway, &publisher, &city, &robot).await;

    wait_until("four points are in the database", SOON, || async {
        let points = influx.points_of("MH-1");
        if points.len() == 4 { Ok(()) } else { Err(format!("{points:?}")) }
    })
    .await;
    let points = influx.points_of("MH-1");
    let opened: Vec<&str> = points.iter().map(|point| point.fields["cover_open"].as_str()).collect();
    assert_eq!(opened, ["false", "true", "true", "false"]);
    assert_eq!(points[1].measurement, "manhole_cover");
    assert_eq!(points[1].fields["tilt_deg"].parse(), Ok(62.0));
    assert_eq!(points[1].tags["unit"], "市政管理处");
    influx.assert_content();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto and victoria-metrics: run tests/run"]
async fn a_cover_is_walked_from_closed_to_open_to_closed() {
    let (mosquitto, victoria) = (Mosquitto::start().await, Victoria::start().await);
    let (city, robot) = (City::start().await, Robot::start().await);
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", Mosquitto::source(mosquitto.address.port()));
    site.configure(&[sources, Influx::config(victoria.port), City::config(city.port(), "json"), duty(&robot)].concat());
    let gateway = site.start().await;
    gateway.wait_for_component("source/city", "ok", "").await;
    let publisher = Publisher::start(mosquitto.address, "cover");

    let link = the_cover_opens(&gateway, &publisher, &city, &robot).await;
    the_officer_signs(&gateway, &link, &robot).await;
    the_cover_closes(&gateway, &publisher, &city, &robot).await;

    wait_until("the readings are in VictoriaMetrics", SOON, || async {
        let opened = victoria.values("manhole_cover", "cover_open", "MH-1").await;
        let tilts = victoria.values("manhole_cover", "tilt_deg", "MH-1").await;
        let all = opened == [0.0, 1.0, 1.0, 0.0] && tilts == [1.2, 62.0, 62.0, 1.2];
        if all { Ok(()) } else { Err(format!("open {opened:?}, tilt {tilts:?}")) }
    })
    .await;
    gateway.stop().await;
}

/// A broker that had to wait for us delivers everything at once. Messages without a time of their own then carry the
/// millisecond of their arrival, and the last one counts all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto: run tests/run"]
async fn covers_that_closed_and_opened_while_the_gateway_was_away_are_open() {
    let covers = 200;
    let mut inventory = "id,profile,address\n".to_owned();
    for number in 0..covers {
        inventory.push_str(&format!("MH-{number:03},json-manhole-cover,MH-{number:03}\n"));
    }
    let (mosquitto, influx) = (Mosquitto::start().await, Influx::start().await);
    let mut site = Site::new(&inventory);
    let sources = format!("sources:\n{}", Mosquitto::source(mosquitto.address.port()));
    site.configure(&[sources, Influx::config(influx.port())].concat());
    let gateway = site.start().await;
    gateway.wait_for_component("source/city", "ok", "").await;
    gateway.kill();
    let publisher = Publisher::start(mosquitto.address, "covers");
    for number in 0..covers {
        for open in [false, true] {
            publisher.publish(&format!("city/d01/manhole/MH-{number:03}/up"), cover_message(open)).await;
        }
    }
    publisher.wait_for_all(SOON).await;

    let gateway = site.start().await;
    wait_until("every cover has an alarm", SOON, || async {
        let alarms = gateway.items("/api/v1/alarms?condition=displaced&limit=1000").await;
        if alarms.len() == covers { Ok(()) } else { Err(format!("{} of {covers}", alarms.len())) }
    })
    .await;
    // Two values of one point in one millisecond are one point in the database; the later one must be the one that stays.
    wait_until("every cover is open in the database", SOON, || async {
        let points = influx.points();
        let last = |number| {
            let device = format!("MH-{number:03}");
            points.iter().filter(|point| point.tags["device"] == device).max_by_key(|point| point.at_ms)
        };
        let is_open = |number: &usize| last(*number).is_some_and(|point| point.fields["cover_open"] == "true");
        let count = (0..covers).filter(is_open).count();
        if count == covers { Ok(()) } else { Err(format!("{count} of {covers}")) }
    })
    .await;
    gateway.stop().await;
}

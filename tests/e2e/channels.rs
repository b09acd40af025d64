//! A robot that answers 200 with an error in the body has not told anybody.

use crate::gateway::Site;
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;
use crate::robot::{Robot, sign_link};
use crate::wait::stays;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_says_no_with_status_200_is_tried_again_and_told_once() {
    let robot = Robot::start().await;
    robot.refuse_next(&[40_099, 40_099]);
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", site.embedded_broker());
    site.configure(&[sources, format!("channels: {{{}}}\n", robot.channel())].concat());
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;

    let words = gateway.wait_for_component("sink/ops", "degraded", "rows wait").await;
    assert!(words.contains("40099") && words.contains("system error"), "{words}");
    let notices = gateway.items("/api/v1/notices").await;
    assert_eq!(notices.len(), 1);
    assert_ne!(notices[0]["state"], "delivered");

    let taken = robot.wait_for_taken(1).await;
    assert_eq!(robot.refused().len(), 2);
    assert!(sign_link(&taken[0]).contains("/s/KB-"));
    gateway.wait_for_component("sink/ops", "ok", "").await;
    gateway.wait_for_items("it counts as told", "/api/v1/notices", |items| items[0]["state"] == "delivered").await;
    let metric = "kerbside_outbox_deliveries_total";
    assert_eq!(gateway.metric(metric, &["target=\"ops\"", "result=\"retry\""]).await, 2.0);
    assert_eq!(gateway.metric(metric, &["target=\"ops\"", "result=\"delivered\""]).await, 1.0);
    // Twice the longest wait that this row could have had by now.
    stays("it is told once", std::time::Duration::from_secs(8), || async {
        let count = robot.taken().len();
        if count == 1 { Ok(()) } else { Err(format!("{count} times")) }
    })
    .await;
    robot.assert_content();
    gateway.stop().await;
}

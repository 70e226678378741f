//! What a dead node leaves behind that nobody can be told of.

use serde_json::json;
use wafergate::protocol::text::md5_hex;

use crate::support::Cluster;
use crate::support::within;

/// The name of a node that is not there.
const DEAD: &str = "00000000000000000000000000000001";

#[tokio::test]
async fn closes_that_cannot_be_sent_are_counted_as_given_up() {
    let cluster = Cluster::new(1).await;
    let client = cluster.connect(0, 0).await;
    let set = format!("wafergate:{{records:{DEAD}}}");
    let record = |tenant: &str, url: &str| json!({"tenant": tenant, "url": url, "key": 1}).to_string();
    let tenant = md5_hex("127.0.0.1");
    let url = cluster.business.url();
    let id = |number: u128| format!("t{number:032x}");
    for (tunnel, record) in [
        (id(1), record(&tenant, &url)),
        (id(2), record("a tenant that is gone", &url)),
        (id(3), record(&tenant, "nonsense")),
        (id(4), "nonsense".to_owned()),
        ("nonsense".to_owned(), record(&tenant, &url)),
    ] {
        assert_eq!(cluster.redis.command(&["HSET", &set, &tunnel, &record]).await, ":1\r\n");
    }

    cluster.redis.command(&["HSET", "wafergate:{nodes}:records", DEAD, DEAD]).await;

    cluster.business.story(&id(1), &["close"]).await;
    let node = &cluster.nodes[0];
    node.until_metric("webhooks_total{event=\"close\",result=\"final\"}", 4.0).await;
    node.until_metric("webhooks_total{event=\"close\",result=\"ok\"}", 1.0).await;
    drop(client);
    node.until_metric("webhooks_total{event=\"close\",result=\"ok\"}", 2.0).await;
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("webhooks_total{", "\"close\""), 6.0, "each once");
    assert_eq!(metrics.value("webhook_queue"), 0.0);
    let gone = async { while cluster.redis.command(&["EXISTS", &set]).await != ":0\r\n" {} };
    within("nothing of it is left", gone).await;
    assert_eq!(cluster.business.violations(), [""; 0]);
}

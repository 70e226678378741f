//! A gateway with a business server and its SDK, as nearly every test needs.

use super::BusinessServer;
use super::Issued;
use super::KEY;
use super::TestClient;
use super::TestGateway;
use super::Wafer;

/// A gateway, a business server and its SDK.
pub(crate) struct World {
    pub(crate) gateway: TestGateway,
    pub(crate) business: BusinessServer,
    pub(crate) wafer: Wafer,
}

impl World {
    /// One with the tests' own settings.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// One with these settings.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let business = BusinessServer::new().await;
        let gateway = TestGateway::with(settings).await;
        let wafer = Wafer::new(gateway.address, "127.0.0.1", KEY);
        Self { gateway, business, wafer }
    }

    /// Asks for a tunnel.
    pub(crate) async fn issue(&self) -> Issued {
        self.wafer.issue(&self.business.url()).await
    }

    /// Opens a tunnel: its client has got its `timeout` packet.
    pub(crate) async fn connect(&self) -> TestClient {
        let issued = self.issue().await;
        let mut client = TestClient::dial(&issued).await.expect("a fresh connect URL works");
        let packet = client.recv_packet().await;
        assert!(packet.starts_with("timeout:"), "{packet}");
        client
    }

    /// Opens a tunnel and waits until its `connect` event is accepted.
    pub(crate) async fn connect_and_settle(&self) -> TestClient {
        let client = self.connect().await;
        self.business.story(&client.tunnel, &["connect"]).await;
        client
    }

    /// Waits until no work is left, and fails if the business server ever received anything wrong.
    pub(crate) async fn finish(self) {
        self.gateway.finish().await;
        self.business.assert_sound();
    }
}

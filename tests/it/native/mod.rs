//! The native API as its business servers meet it.

mod actions;
mod calls;
mod events;
mod groups;
mod methods;
mod misuse;
mod model;
mod moving;
mod nodes;
mod proxies;
mod repeated;
mod slow;
mod withdraw;

use super::support::TestGateway;
use super::support::hooks::Hooks;
use super::support::native::Native;

/// The key of the native tenant: it stands for the bytes behind its Base64.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A gateway, a native business server, and its webhook.
struct Scene {
    gateway: TestGateway,
    hooks: Hooks,
    native: Native,
}

impl Scene {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let hooks = Hooks::new(KEY).await;
        let url = hooks.url();
        let own = [
            ("tenants.1.id", "shop"),
            ("tenants.1.keys", KEY),
            ("tenants.1.webhook_url", &url),
            ("tenants.1.receive_hosts", "127.0.0.1"),
        ];
        let gateway = TestGateway::with(&[&own[..], settings].concat()).await;
        let native = Native { gateway: gateway.address, tenant: "shop".into(), key: KEY.into() };
        Self { gateway, hooks, native }
    }
}

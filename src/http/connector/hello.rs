//! What a `hello` asks for, and whether its tenant may have it.

use std::time::Duration;

use rand::random;

use super::dialled::Dialled;
use crate::connector::Accepted;
use crate::connector::Link;
use crate::connector::Refused;
use crate::connector::Terms;
use crate::delivery::Claim;
use crate::delivery::Instance;
use crate::delivery::Session;
use crate::delivery::Take;
use crate::http_client::receive_url::ReceiveUrl;
use crate::protocol::connector;
use crate::protocol::connector::ConnectorName;
use crate::protocol::connector::Hello;
use crate::protocol::connector::Purpose;
use crate::protocol::connector::VERSION;
use crate::protocol::connector::close_code;
use crate::tenant::Tenant;

/// A connector that may join.
pub(super) struct Greeting {
    pub(super) accepted: Accepted,
    pub(super) terms: Terms,
    pub(super) name: ConnectorName,
}

/// Checks a `hello`.
///
/// # Errors
///
/// With what to change; the connection is closed with it.
pub(super) fn greet(dialled: &Dialled, hello: Hello) -> Result<Greeting, Refused> {
    let Dialled { gateway, caller, .. } = dialled;
    let Hello { v, name, instance, purpose, take, window, attempt_ms, session, pending, .. } = hello;
    if v != VERSION {
        return Err(refused(format!("v must be {VERSION}, {v} came")));
    }
    let name: ConnectorName = name.parse().map_err(|error: connector::InvalidName| refused(error.to_string()))?;
    if let Some(named) = caller.connector.as_ref().filter(|named| **named != name) {
        return Err(refused(format!("the path names {named} and the hello {name}: name one, or the same twice")));
    }
    let instance = Instance::parse(&instance).map_err(|error| refused(error.to_string()))?;
    let take = match take {
        connector::Take::Named => Take::Named(name.clone()),
        connector::Take::Urls(urls) => Take::Urls(claims(&caller.tenant, purpose, &urls)?),
    };
    let settings = gateway.connectors.settings;
    let attempt = attempt_ms.map(Duration::from_millis);
    let terms = Terms {
        window: Link::grant(window, settings.outbox_bytes),
        longest_attempt: Link::longest_attempt(purpose, attempt, settings.webhook_timeout),
        // One that is none was given by no gateway: there is nothing to continue.
        replaces: session.and_then(|session| u128::from_str_radix(&session, 16).ok()).map(Session),
        pending,
    };
    let key = (caller.tenant.id.clone(), caller.key.fingerprint());
    let accepted = Link::new((Session(random()), instance), key, (take, purpose), &terms);
    Ok(Greeting { accepted, terms, name })
}

fn claims(tenant: &Tenant, purpose: Purpose, urls: &[String]) -> Result<Vec<Claim>, Refused> {
    if purpose != Purpose::Serve {
        return Err(refused("only connectors with the purpose \"serve\" may claim URLs: use named"));
    }
    if !tenant.settings().connectors.takes_urls() {
        return Err(refused("URLs cannot be claimed: the tenant's connectors must be \"prefer\" or \"require\""));
    }
    urls.iter().map(|text| claim(tenant, text)).collect()
}

fn claim(tenant: &Tenant, text: &str) -> Result<Claim, Refused> {
    let url = ReceiveUrl::parse(text).map_err(|error| refused(error.to_string()))?;
    if text.contains(['?', '#']) {
        return Err(refused("a claimed URL has neither query nor fragment"));
    }
    if !tenant.owns_authority(url.authority_as_written(), url.host_as_written()) {
        let words = format!("{} is not the tenant's: see receive_hosts", url.authority_as_written());
        return Err(refused(words));
    }
    let (origin, path) = url.claimable();
    Ok(Claim::new(origin, &path))
}

fn refused(reason: impl Into<std::borrow::Cow<'static, str>>) -> Refused {
    Refused { code: close_code::REFUSED, reason: reason.into() }
}

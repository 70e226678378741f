//! What an endpoint keeps of the places that it has found among those that are measured.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::id::TenantId;
use crate::rates::Track;

/// A receive URL of a tenant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EndpointName {
    /// The tenant.
    pub tenant: TenantId,
    /// The URL as it was sent. Its query may hold secrets.
    pub url: Arc<str>,
}

/// The places that an endpoint has found last.
#[derive(Debug, Default)]
pub(super) struct Measured(ArcSwapOption<Places>);

/// The tracks of a receive URL and its tenant, if there was room for them.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) endpoint: Option<Arc<Track<EndpointName>>>,
    pub(super) tenant: Option<Arc<Track<TenantId>>>,
    /// They are valid until this number changes.
    pub(super) generation: u32,
}

impl Measured {
    /// The places, if they are valid.
    pub(super) fn places(&self, generation: u32) -> Option<Arc<Places>> {
        self.0.load_full().filter(|places| places.generation == generation)
    }

    /// Keeps other places.
    pub(super) fn keep(&self, places: Arc<Places>) {
        self.0.store(Some(places));
    }
}

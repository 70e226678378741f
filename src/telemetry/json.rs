//! Formats one event as one JSON object on one line.

use std::fmt;

use tracing::Event;
use tracing::Subscriber;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::registry::LookupSpan;

use super::escape;
use super::fields::Names;

/// `{"timestamp":..,"level":..,"target":..,"node":..,"fields":{"message":..},"spans":[{"name":..}]}`
pub(super) struct JsonLine(pub(super) Names);

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        out.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut out)?;
        write!(out, "\",\"level\":\"{}\",\"target\":", metadata.level())?;
        escape::json(&mut out, metadata.target())?;
        if let Some(node) = self.0.node() {
            out.write_str(",\"node\":")?;
            escape::json(&mut out, node)?;
        }
        out.write_str(",\"fields\":{")?;
        context.format_fields(out.by_ref(), event)?;
        out.write_char('}')?;
        if let Some(scope) = context.event_scope() {
            for (index, span) in scope.from_root().enumerate() {
                out.write_str(if index == 0 { ",\"spans\":[{\"name\":" } else { "},{\"name\":" })?;
                escape::json(&mut out, span.name())?;
                let extensions = span.extensions();
                if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                    write!(out, ",{fields}")?;
                }
            }
            out.write_str("}]")?;
        }
        out.write_str("}\n")
    }
}

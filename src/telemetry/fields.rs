//! Formats the fields of events and spans. Unlike the library's formatters it escapes line breaks in `%x` and messages.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use tracing::field::Field;
use tracing::field::Visit;
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::Writer;

use super::escape;
use super::escape::Value;

/// The field with the id of a tenant.
pub(super) const TENANT: &str = "tenant.id";
/// The field beside it: the ServerHost whose MD5 the id is.
const SERVER_HOST: &str = "tenant.server_host";

/// Returns the ServerHost of a tenant, by its id.
type ServerHostOf = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The name of this node and the ServerHosts of tenants, once they are known. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Names(Arc<Known>);

#[derive(Default)]
struct Known {
    node: OnceLock<String>,
    server_host_of: OnceLock<Box<ServerHostOf>>,
}

impl Names {
    /// Asks `server_host_of` from now on; only the first call counts.
    pub(super) fn set(&self, server_host_of: Box<ServerHostOf>) {
        self.0.server_host_of.get_or_init(|| server_host_of);
    }

    /// Sets the name of this node; only the first call counts.
    pub(super) fn set_node(&self, node: String) {
        self.0.node.get_or_init(|| node);
    }

    /// The name of this node.
    pub(super) fn node(&self) -> Option<&str> {
        self.0.node.get().map(String::as_str)
    }

    fn server_host(&self, tenant: &str) -> Option<String> {
        self.0.server_host_of.get()?(tenant)
    }
}

/// `message name=value name="another value"`
pub(super) struct TextFields(pub(super) Names);

/// `"message":"..","name":"value"`: the inside of a JSON object.
pub(super) struct JsonFields(pub(super) Names);

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        record(writer, text, " ", &self.0, fields)
    }
}

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        record(writer, json, ",", &self.0, fields)
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        if !current.fields.is_empty() && !fields.is_empty() {
            current.fields.push(',');
        }
        self.format_fields(current.as_writer(), fields)
    }
}

/// Writes one field. A bare value is a number or boolean, written without quotes.
type Print = fn(&mut dyn fmt::Write, name: &str, value: &str, is_bare: bool) -> fmt::Result;

fn text(out: &mut dyn fmt::Write, name: &str, value: &str, _is_bare: bool) -> fmt::Result {
    if name == "message" {
        return escape::line(out, value);
    }
    write!(out, "{name}=")?;
    escape::word(out, value)
}

fn json(out: &mut dyn fmt::Write, name: &str, value: &str, is_bare: bool) -> fmt::Result {
    escape::json(out, name)?;
    out.write_char(':')?;
    if is_bare { out.write_str(value) } else { escape::json(out, value) }
}

fn record<R: RecordFields>(
    writer: Writer<'_>,
    print: Print,
    separator: &'static str,
    names: &Names,
    fields: R,
) -> fmt::Result {
    let mut visitor = Visitor { writer, print, separator, names, is_first: true, result: Ok(()) };
    fields.record(&mut visitor);
    visitor.result
}

struct Visitor<'w, 'n> {
    writer: Writer<'w>,
    print: Print,
    separator: &'static str,
    names: &'n Names,
    is_first: bool,
    result: fmt::Result,
}

impl Visitor<'_, '_> {
    fn put(&mut self, field: &Field, value: &str, is_bare: bool) {
        self.put_named(field.name().trim_start_matches("r#"), value, is_bare);
        if field.name() == TENANT
            && let Some(server_host) = self.names.server_host(value)
        {
            let server_host = Value::of_field(SERVER_HOST).add(format_args!("{server_host}")).into_text();
            self.put_named(SERVER_HOST, &server_host, false);
        }
    }

    fn put_named(&mut self, name: &str, value: &str, is_bare: bool) {
        let separator = if self.is_first { "" } else { self.separator };
        self.is_first = false;
        self.result = self
            .result
            .and_then(|()| self.writer.write_str(separator))
            .and_then(|()| (self.print)(&mut self.writer, name, value, is_bare));
    }

    fn put_text(&mut self, field: &Field, arguments: fmt::Arguments<'_>) {
        let value = Value::of_field(field.name()).add(arguments).into_text();
        self.put(field, &value, false);
    }
}

impl Visit for Visitor<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &value.to_string(), value.is_finite());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value.to_string(), true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value.to_string(), true);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value.to_string(), true);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, format_args!("{value}"));
    }

    /// Writes the error and its sources, separated by colons.
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut value = Value::of_field(field.name()).add(format_args!("{error}"));
        let mut source = error.source();
        while let Some(error) = source {
            value = value.add(format_args!(": {error}"));
            source = error.source();
        }
        self.put(field, &value.into_text(), false);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format_args!("{value:?}"));
    }
}

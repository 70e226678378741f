//! Formats the fields of events and spans. Unlike the library's formatters it escapes line breaks in `%x` and messages.

use std::error::Error;
use std::fmt;

use tracing::field::Field;
use tracing::field::Visit;
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::Writer;

use super::escape;
use super::escape::Value;

/// `message name=value name="another value"`
pub(super) struct TextFields;

/// `"message":"..","name":"value"`: the inside of a JSON object.
pub(super) struct JsonFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        record(writer, text, " ", fields)
    }
}

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        record(writer, json, ",", fields)
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

fn record<R: RecordFields>(writer: Writer<'_>, print: Print, separator: &'static str, fields: R) -> fmt::Result {
    let mut visitor = Visitor { writer, print, separator, is_first: true, result: Ok(()) };
    fields.record(&mut visitor);
    visitor.result
}

struct Visitor<'w> {
    writer: Writer<'w>,
    print: Print,
    separator: &'static str,
    is_first: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: &str, is_bare: bool) {
        let separator = if self.is_first { "" } else { self.separator };
        self.is_first = false;
        let name = field.name().trim_start_matches("r#");
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

impl Visit for Visitor<'_> {
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

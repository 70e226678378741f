//! Explains what is wrong with a PEM file.

use rustls_pki_types::pem::Error;

/// A file that cannot be used as PEM.
#[derive(Debug, thiserror::Error)]
#[error("{}", words(.0))]
pub struct PemError(pub Error);

fn words(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            let end = String::from_utf8_lossy(end_marker);
            format!(
                "the file is cut: its last block, {}, has no end",
                end.trim_matches(['-', ' ']).trim_start_matches("END ")
            )
        }
        Error::IllegalSectionStart { .. } => "a line that begins with ----- is no begin of a PEM block".to_owned(),
        Error::Base64Decode(_) => "what stands in a block is not Base64: the file is damaged".to_owned(),
        Error::NoItemsFound => "there is no such block in the file".to_owned(),
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_bytes() {
        for (text, said) in [
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", "the file is cut: its last block, PRIVATE KEY, has no end"),
            (
                "-----BEGIN PRIVATE KEY-----\nA!AA\n-----END PRIVATE KEY-----\n",
                "what stands in a block is not Base64: the file is damaged",
            ),
            ("-----BEGIN nonsense\n", "a line that begins with ----- is no begin of a PEM block"),
            ("", "there is no such block in the file"),
        ] {
            let error = PrivateKeyDer::from_pem_slice(text.as_bytes()).expect_err(text);
            assert_eq!(PemError(error).to_string(), said, "{text}");
        }
    }
}

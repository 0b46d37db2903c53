//! What a server's error says, for a person.

use std::error::Error as StdError;

use tokio_postgres::error::DbError;

/// An error in one line: the server's message with its SQLSTATE, detail, hint and context; for an error that
/// is not the server's, the messages of the error and its causes. No severity, no trailing period.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => describe_response(error),
        None => describe_chain(error),
    }
}

/// The same for the server's answer itself, and for a notice.
pub fn describe_response(error: &DbError) -> String {
    let mut text = format!("{} (SQLSTATE {})", error.message(), error.code().code());
    for (label, value) in [("detail", error.detail()), ("hint", error.hint()), ("where", error.where_())] {
        if let Some(value) = value {
            text.push_str("; ");
            text.push_str(label);
            text.push_str(": ");
            // Contexts have a line per level.
            text.push_str(value.trim_end_matches('.').replace('\n', ", ").as_str());
        }
    }
    text
}

/// An error and its causes in one line. Some errors have their cause in their own message already (those of
/// tokio-postgres do), so a cause is told only if it is not.
pub fn describe_chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

//! A [`ConnInfo`] for another libpq program: its keyword string and its passfile.
//!
//! Children start with a cleared environment, so everything but the password stands in the keyword string;
//! the password goes into a private passfile, never into an argument.

use std::fmt::{Display, Write};
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::{ChannelBinding, ConnInfo, ConnInfoError, Host, RootCertificates};

impl ConnInfo {
    /// The keyword string for `--dbname`, complete but for the password, which libpq finds in `passfile`.
    ///
    /// Parameters that older client programs do not know appear only where they change something:
    /// `channel_binding` came with 13, `sslrootcert=system` with 16.
    pub fn keyword_string(&self, passfile: Option<&Path>) -> String {
        let mut text = String::new();
        match &self.host {
            Host::Name(name) => push(&mut text, "host", name),
            Host::SocketDirectory(directory) => push(&mut text, "host", directory.display()),
        }
        if let Some(address) = self.address {
            push(&mut text, "hostaddr", address);
        }
        push(&mut text, "port", self.port);
        push(&mut text, "user", &self.user);
        push(&mut text, "dbname", &self.database);
        if let Some(passfile) = passfile {
            push(&mut text, "passfile", passfile.display());
        }
        push(&mut text, "sslmode", self.ssl_mode.keyword());
        match &self.root_certificates {
            Some(RootCertificates::System) => push(&mut text, "sslrootcert", "system"),
            Some(RootCertificates::File(path)) => push(&mut text, "sslrootcert", path.display()),
            None => {}
        }
        if let Some(client) = &self.client_certificate {
            push(&mut text, "sslcert", client.certificate.display());
            push(&mut text, "sslkey", client.key.display());
        }
        match self.channel_binding {
            ChannelBinding::Prefer => {}
            ChannelBinding::Disable => push(&mut text, "channel_binding", "disable"),
            ChannelBinding::Require => push(&mut text, "channel_binding", "require"),
        }
        // pgmove has no GSSAPI; a child that found a ticket would connect in another way than pgmove did.
        push(&mut text, "gssencmode", "disable");
        if let Some(options) = &self.options {
            push(&mut text, "options", options);
        }
        if let Some(name) = &self.application_name {
            push(&mut text, "application_name", name);
        }
        push(&mut text, "connect_timeout", self.connect_timeout.map_or(0, |timeout| timeout.as_secs()));
        match self.keepalive {
            None => push(&mut text, "keepalives", 0),
            Some(keepalive) => {
                push(&mut text, "keepalives_idle", keepalive.idle.as_secs());
                push(&mut text, "keepalives_interval", keepalive.interval.as_secs());
                push(&mut text, "keepalives_count", keepalive.count);
            }
        }
        if let Some(timeout) = self.tcp_user_timeout {
            push(&mut text, "tcp_user_timeout", timeout.as_millis());
        }
        text
    }

    /// The line of a private passfile (mode 0600) for this login; `None` if no password is known.
    ///
    /// Host and port are wildcards: for a Unix socket libpq compares the host with "localhost" or with the
    /// directory, depending on the directory it was built for.
    pub fn passfile_line(&self) -> Result<Option<SecretString>, ConnInfoError> {
        let Some(password) = self.password.as_ref().map(ExposeSecret::expose_secret) else { return Ok(None) };
        if password.contains(['\n', '\r', '\0']) {
            return Err(ConnInfoError::PasswordForPassfile);
        }
        let [database, user, password] = [&self.database, &self.user, password].map(escape);
        Ok(Some(SecretString::from(format!("*:*:{}:{}:{}\n", *database, *user, *password))))
    }
}

/// Appends ` name='value'`, quoted always: libpq then needs no list of special letters.
fn push(text: &mut String, name: &str, value: impl Display) {
    if !text.is_empty() {
        text.push(' ');
    }
    let quoted = value.to_string().replace('\\', "\\\\").replace('\'', "\\'");
    write!(text, "{name}='{quoted}'").expect("a String takes every write");
}

/// A field of a passfile: `:` and `\` are escaped by a backslash.
fn escape(field: &str) -> Zeroizing<String> {
    let mut escaped = Zeroizing::new(String::with_capacity(field.len() * 2));
    for letter in field.chars() {
        if matches!(letter, ':' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

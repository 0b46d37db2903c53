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
            // Its socket is known when the child is run; whoever forgets that must not reach another server.
            Host::Pod { .. } => push(&mut text, "host", "/dev/null"),
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
            // Servers whose certificates are known from a cluster are reached over a socket, without TLS.
            Some(RootCertificates::Text { .. }) | None => {}
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
        let Some(password) = self.password() else { return Ok(None) };
        let password = password.expose_secret();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pg::conninfo::Defaults;

    fn defaults() -> Defaults {
        Defaults { user: Some("me".to_owned()), home: None }
    }

    #[test]
    fn everything_but_the_password_is_in_the_string() {
        let text =
            "host=h user=o'b dbname='a b' password=p sslmode=require sslrootcert=/ca options='-c a=b\\\\c'";
        let conninfo = ConnInfo::parse(text, &defaults()).expect("valid");
        assert_eq!(
            conninfo.keyword_string(Some(Path::new("/run/pass"))),
            r"host='h' port='5432' user='o\'b' dbname='a b' passfile='/run/pass' sslmode='require' sslrootcert='/ca' gssencmode='disable' options='-c a=b\\c' connect_timeout='30' keepalives_idle='30' keepalives_interval='10' keepalives_count='6'"
        );
    }

    #[test]
    fn the_passfile_line_is_escaped() {
        let line = |text: &str| {
            let conninfo = ConnInfo::parse(text, &defaults()).expect("valid");
            Ok(conninfo.passfile_line()?.map(|line| line.expose_secret().to_owned()))
        };
        assert_eq!(line(r"user=a:b dbname=d password=p\\:q"), Ok(Some("*:*:d:a\\:b:p\\\\\\:q\n".to_owned())));
        assert_eq!(line("user=a"), Ok(None));
        assert_eq!(line("user=a password='x\ny'"), Err(ConnInfoError::PasswordForPassfile));
    }

    /// Optional parameters with values that need quoting.
    fn texts() -> impl Strategy<Value = Vec<(&'static str, String)>> {
        let words = "[^\0,@]{1,12}";
        let pair = prop_oneof![
            prop::sample::select(vec!["user", "dbname", "options", "application_name", "sslcert", "sslkey"])
                .prop_flat_map(move |name| (Just(name), words)),
            "/[^\0,]{0,12}".prop_map(|directory| ("host", directory)),
            "[a-z0-9.-]{1,12}".prop_map(|host| ("host", host)),
            (1..=u16::MAX).prop_map(|port| ("port", port.to_string())),
            (0..9999u32).prop_map(|seconds| ("connect_timeout", seconds.to_string())),
            (0..9999u32).prop_map(|seconds| ("keepalives_idle", seconds.to_string())),
            (0..99_999u32).prop_map(|milliseconds| ("tcp_user_timeout", milliseconds.to_string())),
            (0..=1u8).prop_map(|switch| ("keepalives", switch.to_string())),
            prop::sample::select(vec!["disable", "prefer", "require"])
                .prop_map(|word| ("sslmode", word.to_owned())),
            prop::sample::select(vec!["disable", "prefer", "require"])
                .prop_map(|word| ("channel_binding", word.to_owned())),
            Just(("sslrootcert", "/ca".to_owned())),
        ];
        prop::collection::vec(pair, 0..10)
    }

    proptest! {
        #[test]
        fn a_keyword_string_is_read_back_as_it_was(parameters in texts()) {
            let mut text = String::new();
            for (name, value) in &parameters {
                push(&mut text, name, value);
            }
            let conninfo = ConnInfo::parse(&text, &defaults()).expect("valid");
            let rendered = conninfo.keyword_string(None);
            let again = ConnInfo::parse(&rendered, &Defaults::default()).expect("what was rendered is valid");
            // Debug shows every field.
            prop_assert_eq!(format!("{conninfo:?}"), format!("{again:?}"));
        }
    }
}

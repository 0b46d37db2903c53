//! Passwords from a passfile, as libpq reads it (PostgreSQL manual, "The Password File").

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::{ConnInfo, Host};

/// What a passfile says about a login.
#[derive(Debug, Default)]
pub struct PassfileAnswer {
    /// The password of the first line that fits.
    pub password: Option<SecretString>,
    /// Why the file was ignored, as a sentence for the operator.
    pub warning: Option<String>,
}

impl ConnInfo {
    /// Looks the password up in `passfile`, or in `~/.pgpass`. A file that does not exist has no answer; one
    /// that others may read is ignored with a warning.
    pub fn password_from_passfile(&self) -> PassfileAnswer {
        let Some(path) = &self.passfile else { return PassfileAnswer::default() };
        match read(path) {
            Ok(content) => {
                let password = content.as_ref().and_then(|content| self.find_password(content));
                PassfileAnswer { password, warning: None }
            }
            Err(warning) => PassfileAnswer { password: None, warning: Some(warning) },
        }
    }

    fn find_password(&self, content: &str) -> Option<SecretString> {
        let host = match (&self.host, self.address) {
            (Host::Name(name), _) => name.clone(),
            (Host::Pod { route, .. }, _) => route.to_string(),
            (Host::SocketDirectory(_), Some(address)) => address.to_string(),
            (Host::SocketDirectory(directory), None) => directory.display().to_string(),
        };
        // Two directories are compiled into libpq as its default, PostgreSQL's own and Debian's; a passfile
        // names the default one "localhost".
        let is_default_socket = matches!(host.as_str(), "/tmp" | "/var/run/postgresql");
        let port = self.port.to_string();
        let values = [host.as_str(), &port, &self.database, &self.user];
        content.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let mut rest = line;
            for (position, value) in values.iter().enumerate() {
                let (field, after) = split_field(rest)?;
                let is_local = position == 0 && is_default_socket && field == "localhost";
                // Only a bare asterisk is the wildcard; `\*` is an asterisk.
                if !(field == "*" || is_local || *unescape(field) == **value) {
                    return None;
                }
                rest = after;
            }
            Some(SecretString::from(unescape(rest).as_str()))
        })
    }
}

/// The content, `None` if there is no such file; or why it cannot be used.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("passfile {} is ignored: {error}", path.display())),
    };
    if !metadata.is_file() {
        return Err(format!("passfile {} is ignored: it is not a plain file", path.display()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        return Err(format!(
            "passfile {path} is ignored: group or others have access; run chmod 0600 {path}"
        ));
    }
    fs::read_to_string(path)
        .map(|content| Some(Zeroizing::new(content)))
        .map_err(|error| format!("passfile {} is ignored: {error}", path.display()))
}

/// The text before the next unescaped colon, still escaped, and the text after it.
fn split_field(line: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = line.find(|letter| {
        let ends = letter == ':' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends
    })?;
    Some((&line[..end], &line[end + 1..]))
}

fn unescape(field: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(field.len()));
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        // A backslash at the very end stands for itself.
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::pg::conninfo::Defaults;

    fn conninfo(text: &str) -> ConnInfo {
        ConnInfo::parse(text, &Defaults { user: Some("u".to_owned()), home: None }).expect("valid")
    }

    fn found(text: &str, file: &str) -> Option<String> {
        conninfo(text).find_password(file).map(|password| password.expose_secret().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = "# h:1:d:u:comment\nh:1:d:other:a\nbroken\nh:1:d:u:b\n*:*:*:*:c\n";
        assert_eq!(found("host=h port=1 dbname=d", file).as_deref(), Some("b"));
        assert_eq!(found("host=h port=2 dbname=d", file).as_deref(), Some("c"));
        assert_eq!(found("host=x", "h:*:*:*:c"), None);
        assert_eq!(found("host=h", "h:*:*:*"), None);
    }

    #[test]
    fn fields_are_escaped() {
        assert_eq!(found("host=::1", r"\:\:1:*:*:*:a\:b\\c:d\").as_deref(), Some(r"a:b\c:d\"));
        assert_eq!(found("dbname=a\\\\b", r"*:*:a\\b:*:p").as_deref(), Some("p"));
        assert_eq!(found("dbname=d", r"*:*:\*:*:p"), None);
    }

    #[test]
    fn default_sockets_are_localhost() {
        assert_eq!(found("host=/tmp", "localhost:*:*:*:p").as_deref(), Some("p"));
        assert_eq!(found("host=/srv", "localhost:*:*:*:p"), None);
        assert_eq!(found("host=/srv", "/srv:*:*:*:p").as_deref(), Some("p"));
    }

    #[test]
    fn our_own_line_is_read_back() {
        let login = conninfo(r"host=h user=a:b dbname=c\\d").with_password(r"p:\q".into());
        let line = login.passfile_line().expect("no line break").expect("a password");
        let password = login.find_password(line.expose_secret()).expect("the line fits");
        assert_eq!(password.expose_secret(), r"p:\q");
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored_with_a_warning() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(".pgpass");
        let defaults = Defaults { user: Some("u".to_owned()), home: Some(home.path().to_owned()) };
        let login = ConnInfo::parse("", &defaults).expect("valid");
        let absent = login.password_from_passfile();
        assert!(absent.password.is_none() && absent.warning.is_none());

        fs::write(&path, "*:*:*:*:p\n").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        let answer = login.password_from_passfile();
        assert!(answer.password.is_none());
        assert!(answer.warning.expect("a warning").contains("chmod 0600"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        assert!(login.password_from_passfile().password.is_some());
    }
}

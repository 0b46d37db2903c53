//! Parameters to a [`ConnInfo`]: which names and values are accepted, and libpq's defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::parse::{Parameter, several};
use super::{
    CONNECT_TIMEOUT, ChannelBinding, ClientCertificate, ConnInfo, ConnInfoError, Defaults, Host, Keepalive,
    RootCertificates, SslMode,
};

/// The parameters that are read here.
const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "passfile",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// libpq's other parameters, with the reason for refusing them.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("client_encoding", "pgmove chooses the encoding"),
    ("fallback_application_name", "write application_name"),
    ("gssdelegation", "GSSAPI is not offered"),
    ("gsslib", "GSSAPI is not offered"),
    ("krbsrvname", "GSSAPI is not offered"),
    ("load_balance_hosts", "a move needs one and the same server for all its connections"),
    ("max_protocol_version", "the protocol version is 3.0"),
    ("min_protocol_version", "the protocol version is 3.0"),
    ("oauth_client_id", "OAuth is not offered"),
    ("oauth_client_secret", "OAuth is not offered"),
    ("oauth_issuer", "OAuth is not offered"),
    ("oauth_scope", "OAuth is not offered"),
    ("replication", "a move uses ordinary connections"),
    ("require_auth", "the server chooses the method; use channel_binding=require or sslmode=verify-full"),
    ("requirepeer", "the owner of the socket is not checked"),
    ("scram_client_key", "give the password"),
    ("scram_server_key", "give the password"),
    ("service", "write out what stands in the service file"),
    ("servicefile", "write out what stands in the service file"),
    ("ssl_max_protocol_version", "TLS 1.2 and 1.3 are offered"),
    ("ssl_min_protocol_version", "TLS 1.2 and 1.3 are offered"),
    ("sslcertmode", "the certificate is shown to a server that asks for it"),
    ("sslcompression", "TLS is never compressed"),
    ("sslcrl", "revocation lists are not read"),
    ("sslcrldir", "revocation lists are not read"),
    ("sslkeylogfile", "TLS keys are never written"),
    ("sslpassword", "decrypt the key file first"),
    ("sslsni", "the server name is always sent"),
];

/// Values by name; an empty value is an absent one.
struct Values(BTreeMap<String, Zeroizing<String>>);

impl Values {
    fn text(&self, name: &'static str) -> Option<&str> {
        debug_assert!(KNOWN.contains(&name), "{name} would have been refused as unknown");
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    fn owned(&self, name: &'static str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn number<N: FromStr>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<N>, ConnInfoError> {
        self.text(name).map(|text| text.trim().parse().map_err(|_| value(name, text, expected))).transpose()
    }

    /// A number of seconds, or of `unit`s; libpq takes 0 and less for "not set".
    fn duration(&self, name: &'static str, unit: Duration) -> Result<Option<Duration>, ConnInfoError> {
        let count = self.number::<i32>(name, "a whole number is expected")?;
        Ok(count
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| *count > 0)
            .map(|count| unit * count))
    }
}

fn value(parameter: &'static str, value: &str, expected: &'static str) -> ConnInfoError {
    ConnInfoError::Value { parameter, value: value.to_owned(), expected }
}

fn unsupported(parameter: impl Into<String>, reason: &'static str) -> ConnInfoError {
    ConnInfoError::Unsupported { parameter: parameter.into(), reason }
}

/// A connection string's parameters, judged and completed.
pub(super) fn assemble(parameters: Vec<Parameter>, defaults: &Defaults) -> Result<ConnInfo, ConnInfoError> {
    let mut values = Values(BTreeMap::new());
    for (name, value) in parameters {
        if let Some((_, reason)) = UNSUPPORTED.iter().find(|(unsupported, _)| *unsupported == name) {
            return Err(unsupported(name, reason));
        }
        if !KNOWN.contains(&name.as_str()) {
            return Err(ConnInfoError::Unknown(name));
        }
        values.0.insert(name, value);
    }
    for name in ["host", "hostaddr", "port"] {
        if values.text(name).is_some_and(|list| list.contains(',')) {
            return Err(several(name));
        }
    }
    check_accepted(&values)?;

    let address = match values.text("hostaddr") {
        Some(text) => Some(text.parse().map_err(|_| value("hostaddr", text, "an IP address is expected"))?),
        None => None,
    };
    let host = match (values.text("host"), values.text("hostaddr")) {
        (Some(host), _) if host.starts_with('/') => Host::SocketDirectory(host.into()),
        (Some(host), _) if host.starts_with('@') => {
            return Err(unsupported(format!("host={host}"), "sockets in the abstract namespace"));
        }
        (Some(host), _) | (None, Some(host)) => Host::Name(host.to_owned()),
        (None, None) => Host::Name("localhost".to_owned()),
    };
    let port = match values.number::<u16>("port", "a number from 1 to 65535 is expected")? {
        Some(0) => return Err(value("port", "0", "a number from 1 to 65535 is expected")),
        Some(port) => port,
        None => 5432,
    };
    let user = values.owned("user").or_else(|| defaults.user.clone()).ok_or(ConnInfoError::NoUser)?;
    let database = values.owned("dbname").unwrap_or_else(|| user.clone());
    let (ssl_mode, root_certificates) = trust(&values, defaults)?;

    Ok(ConnInfo {
        host,
        address,
        port,
        user,
        database,
        password: values.text("password").map(SecretString::from),
        renewal: None,
        is_admin: false,
        passfile: values.path("passfile").or_else(|| Some(defaults.home.as_ref()?.join(".pgpass"))),
        ssl_mode,
        root_certificates,
        client_certificate: client_certificate(&values, defaults),
        channel_binding: channel_binding(&values)?,
        options: values.owned("options"),
        application_name: values.owned("application_name"),
        connect_timeout: match values.text("connect_timeout") {
            Some(_) => values.duration("connect_timeout", Duration::from_secs(1))?,
            None => Some(CONNECT_TIMEOUT),
        },
        keepalive: keepalive(&values)?,
        tcp_user_timeout: values.duration("tcp_user_timeout", Duration::from_millis(1))?,
    })
}

/// Parameters of which pgmove does only what these values ask for.
fn check_accepted(values: &Values) -> Result<(), ConnInfoError> {
    const ACCEPTED: &[(&str, &[&str], &str)] = &[
        ("gssencmode", &["disable", "prefer"], "GSSAPI encryption is not offered; use TLS"),
        ("sslnegotiation", &["postgres"], "TLS is asked for in PostgreSQL's own way"),
        ("target_session_attrs", &["any", "read-write"], "there is only one server to choose from"),
    ];
    for (name, accepted, reason) in ACCEPTED {
        if let Some(text) = values.text(name)
            && !accepted.contains(&text)
        {
            return Err(unsupported(format!("{name}={text}"), reason));
        }
    }
    Ok(())
}

fn file_in_home(defaults: &Defaults, name: &str) -> Option<PathBuf> {
    Some(defaults.home.as_ref()?.join(".postgresql").join(name))
}

fn existing(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| Path::exists(path))
}

/// `sslmode` and `sslrootcert`, which limit each other.
fn trust(values: &Values, defaults: &Defaults) -> Result<(SslMode, Option<RootCertificates>), ConnInfoError> {
    let roots = match values.text("sslrootcert") {
        Some("system") => Some(RootCertificates::System),
        Some(path) => Some(RootCertificates::File(path.into())),
        None => existing(file_in_home(defaults, "root.crt")).map(RootCertificates::File),
    };
    let mode = match values.text("sslmode") {
        // Public authorities certify anyone, so only the name tells the server from others (libpq's rule).
        None if roots == Some(RootCertificates::System) => SslMode::VerifyFull,
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some("allow") => {
            return Err(unsupported("sslmode=allow", "use prefer, or require to be sure of encryption"));
        }
        Some(other) => {
            let expected = "disable, prefer, require, verify-ca or verify-full is expected";
            return Err(value("sslmode", other, expected));
        }
    };
    match (mode, &roots) {
        (SslMode::VerifyFull, Some(_)) | (SslMode::VerifyCa, Some(RootCertificates::File(_))) => {}
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            return Err(ConnInfoError::NoRootCertificate(mode.keyword()));
        }
        (_, Some(RootCertificates::System)) => {
            return Err(unsupported(
                format!("sslmode={} with sslrootcert=system", mode.keyword()),
                "the system's roots prove a server only together with its name; use verify-full",
            ));
        }
        _ => {}
    }
    Ok((mode, roots))
}

fn client_certificate(values: &Values, defaults: &Defaults) -> Option<ClientCertificate> {
    let certificate =
        values.path("sslcert").or_else(|| existing(file_in_home(defaults, "postgresql.crt")))?;
    let key = values.path("sslkey").or_else(|| file_in_home(defaults, "postgresql.key"));
    // A file may hold both; where no other is known, the key is looked for beside the certificate.
    Some(ClientCertificate { key: key.unwrap_or_else(|| certificate.clone()), certificate })
}

fn channel_binding(values: &Values) -> Result<ChannelBinding, ConnInfoError> {
    Ok(match values.text("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        Some(other) => {
            return Err(value("channel_binding", other, "disable, prefer or require is expected"));
        }
    })
}

fn keepalive(values: &Values) -> Result<Option<Keepalive>, ConnInfoError> {
    if values.number::<i32>("keepalives", "0 or 1 is expected")? == Some(0) {
        return Ok(None);
    }
    let second = Duration::from_secs(1);
    let ours = Keepalive::default();
    let count = values.number::<u32>("keepalives_count", "a whole number is expected")?;
    Ok(Some(Keepalive {
        idle: values.duration("keepalives_idle", second)?.unwrap_or(ours.idle),
        interval: values.duration("keepalives_interval", second)?.unwrap_or(ours.interval),
        count: count.filter(|count| *count > 0).unwrap_or(ours.count),
    }))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use secrecy::ExposeSecret;

    use super::*;

    fn parse(text: &str) -> Result<ConnInfo, ConnInfoError> {
        ConnInfo::parse(text, &Defaults { user: Some("me".to_owned()), home: None })
    }

    #[test]
    fn what_is_not_said_is_as_in_libpq() {
        let conninfo = parse("").expect("nothing is required");
        assert_eq!(conninfo.to_string(), "me@localhost:5432/me");
        assert_eq!(conninfo.ssl_mode(), SslMode::Prefer);
        assert_eq!(conninfo.connect_timeout(), Some(CONNECT_TIMEOUT));
        assert_eq!(conninfo.keepalive(), Some(Keepalive::default()));
        assert!(conninfo.password().is_none());
        assert_eq!(parse("user=you").expect("valid").database(), "you");
        assert_eq!(ConnInfo::parse("", &Defaults::default()).err(), Some(ConnInfoError::NoUser));
    }

    #[test]
    fn values_arrive() {
        let conninfo = parse(
            "host=db hostaddr=10.0.0.1 port=1 user=u password=p dbname=d application_name=a \
             sslmode=verify-full sslrootcert=/ca sslcert=/c sslkey=/k channel_binding=require \
             options='-c a=b' connect_timeout=7 keepalives_idle=1 keepalives_interval=2 keepalives_count=3 \
             tcp_user_timeout=1500 target_session_attrs=any gssencmode=prefer sslnegotiation=postgres",
        )
        .expect("all of it is supported");
        assert_eq!(conninfo.host(), &Host::Name("db".to_owned()));
        assert_eq!(conninfo.address(), Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(conninfo.to_string(), "u@db:1/d");
        assert_eq!(conninfo.password().as_ref().map(ExposeSecret::expose_secret), Some("p"));
        assert_eq!(conninfo.ssl_mode(), SslMode::VerifyFull);
        assert_eq!(conninfo.root_certificates(), Some(&RootCertificates::File("/ca".into())));
        let client = ClientCertificate { certificate: "/c".into(), key: "/k".into() };
        assert_eq!(conninfo.client_certificate(), Some(&client));
        assert_eq!(conninfo.channel_binding(), ChannelBinding::Require);
        assert_eq!(conninfo.options(), Some("-c a=b"));
        assert_eq!(conninfo.application_name(), Some("a"));
        assert_eq!(conninfo.connect_timeout(), Some(Duration::from_secs(7)));
        let second = Duration::from_secs(1);
        assert_eq!(conninfo.keepalive(), Some(Keepalive { idle: second, interval: second * 2, count: 3 }));
        assert_eq!(conninfo.tcp_user_timeout(), Some(Duration::from_millis(1500)));
        assert_eq!(parse("connect_timeout=0").expect("valid").connect_timeout(), None);
        assert_eq!(parse("keepalives=0").expect("valid").keepalive(), None);
    }

    #[test]
    fn sockets_are_found_by_directory_and_port() {
        let conninfo = parse("postgres:///d?host=/run/pg&port=5433").expect("valid");
        assert_eq!(conninfo.socket_path(), Some("/run/pg/.s.PGSQL.5433".into()));
        assert_eq!(conninfo.to_string(), "me@/run/pg:5433/d");
        assert_eq!(parse("host=/run/pg hostaddr=::1").expect("valid").socket_path(), None);
        assert_eq!(parse("host=::1").expect("valid").to_string(), "me@[::1]:5432/me");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("service=x", "service"),
            ("sslmode=allow", "sslmode=allow"),
            ("host=a,b", "host"),
            ("port=1,2", "port"),
            ("hostaddr=::1,::2", "hostaddr"),
            ("require_auth=scram-sha-256", "require_auth"),
            ("sslnegotiation=direct", "sslnegotiation=direct"),
            ("target_session_attrs=standby", "target_session_attrs=standby"),
            ("gssencmode=require", "gssencmode=require"),
            ("host=@abstract", "host=@abstract"),
            ("sslrootcert=system sslmode=require", "sslmode=require with sslrootcert=system"),
        ];
        for (text, expected) in cases {
            match parse(text) {
                Err(ConnInfoError::Unsupported { parameter, .. }) => assert_eq!(parameter, expected),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(parse("hots=h").err(), Some(ConnInfoError::Unknown("hots".to_owned())));
        assert_eq!(parse("sslmode=verify-ca").err(), Some(ConnInfoError::NoRootCertificate("verify-ca")));
    }

    #[test]
    fn impossible_values_are_named() {
        let cases = [
            ("port=0", "port"),
            ("port=65536", "port"),
            ("port=x", "port"),
            ("hostaddr=db", "hostaddr"),
            ("sslmode=on", "sslmode"),
            ("channel_binding=yes", "channel_binding"),
            ("connect_timeout=soon", "connect_timeout"),
            ("keepalives=yes", "keepalives"),
        ];
        for (text, expected) in cases {
            match parse(text) {
                Err(ConnInfoError::Value { parameter, .. }) => assert_eq!(parameter, expected),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn certificates_in_the_home_directory_count() {
        let home = tempfile::tempdir().expect("a directory");
        let defaults = Defaults { user: Some("me".to_owned()), home: Some(home.path().to_owned()) };
        let directory = home.path().join(".postgresql");
        std::fs::create_dir(&directory).expect("a directory");
        let before = ConnInfo::parse("sslmode=require", &defaults).expect("valid");
        assert_eq!((before.root_certificates(), before.client_certificate()), (None, None));

        for name in ["root.crt", "postgresql.crt"] {
            std::fs::write(directory.join(name), "").expect("a file");
        }
        let after = ConnInfo::parse("sslmode=require", &defaults).expect("valid");
        assert_eq!(after.root_certificates(), Some(&RootCertificates::File(directory.join("root.crt"))));
        let client = after.client_certificate().expect("the certificate is there");
        assert_eq!(client.key, directory.join("postgresql.key"));
    }

    #[test]
    fn the_system_roots_imply_verify_full() {
        let conninfo = parse("sslrootcert=system").expect("valid");
        assert_eq!(conninfo.ssl_mode(), SslMode::VerifyFull);
    }

    #[test]
    fn no_output_shows_the_password() {
        let conninfo = parse("password=geheim").expect("valid");
        assert!(!format!("{conninfo:?} {conninfo}").contains("geheim"));
        assert!(!conninfo.keyword_string(None).contains("geheim"));
    }
}

//! Text to parameters: the two syntaxes of libpq's connection strings.
//!
//! Both give pairs of name and value in the order written; a later one replaces an earlier one. Names are not
//! judged here. Follows the PostgreSQL manual, "Connection Strings", and libpq where the manual is silent.

use secrecy::zeroize::Zeroizing;

use super::ConnInfoError;

/// A parameter as written. Every value is wiped after use, since any of them may be a password.
pub(super) type Parameter = (String, Zeroizing<String>);

/// The parameters of a URI or a keyword string.
pub(super) fn parameters(text: &str) -> Result<Vec<Parameter>, ConnInfoError> {
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => uri(rest),
        None => keywords(text),
    }
}

fn syntax(message: impl Into<String>) -> ConnInfoError {
    ConnInfoError::Syntax(message.into())
}

/// A URI without its scheme: `[user[:password]@][host][:port][/database][?name=value[&...]]`.
fn uri(text: &str) -> Result<Vec<Parameter>, ConnInfoError> {
    let mut parameters = Vec::new();
    let mut push = |name: &str, value: &str| -> Result<(), ConnInfoError> {
        // An empty part is an absent one.
        if !value.is_empty() {
            parameters.push((name.to_owned(), decode(value, name)?));
        }
        Ok(())
    };

    let mut rest = text;
    if let Some(end) = text.find(['@', '/'])
        && text.as_bytes()[end] == b'@'
    {
        let (user, password) = text[..end].split_once(':').unwrap_or((&text[..end], ""));
        push("user", user)?;
        push("password", password)?;
        rest = &text[end + 1..];
    }
    // What follows an unescaped letter of a password is part of it, and would be shown as host, port or database.
    if rest.split('?').next().is_some_and(|place| place.contains('@')) {
        return Err(syntax(
            "an \"@\" stands in its host, port or database; in a password, @ is written %40 and / is %2F",
        ));
    }

    if let Some(bracketed) = rest.strip_prefix('[') {
        let (address, after) =
            bracketed.split_once(']').ok_or_else(|| syntax("\"[\" of an IPv6 address has no \"]\""))?;
        if address.is_empty() {
            return Err(syntax("the IPv6 address in brackets is empty"));
        }
        if !after.is_empty() && !after.starts_with([':', '/', '?', ',']) {
            return Err(syntax("after \"]\" there must be \":\", \"/\", \"?\" or the end"));
        }
        push("host", address)?;
        rest = after;
    } else {
        let end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
        push("host", &rest[..end])?;
        rest = &rest[end..];
    }
    if let Some(port) = rest.strip_prefix(':') {
        let end = port.find(['/', '?', ',']).unwrap_or(port.len());
        // Its value is not shown, since an unescaped "/" makes it the beginning of a password.
        if !port[..end].is_empty() && !decode(&port[..end], "port")?.parse().is_ok_and(|port: u16| port > 0) {
            return Err(syntax("the port is no number from 1 to 65535; in a password, / is written %2F"));
        }
        push("port", &port[..end])?;
        rest = &port[end..];
    }
    if rest.starts_with(',') {
        return Err(several("host"));
    }

    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    push("dbname", path.strip_prefix('/').unwrap_or(path))?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| syntax("a query parameter of the URI has no \"=\""))?;
        if value.contains('=') {
            return Err(syntax(format!("query parameter \"{name}\" of the URI has two \"=\"; write %3D")));
        }
        let name = decode(name, "name of a query parameter")?;
        match (name.as_str(), value) {
            // libpq takes it for the sake of JDBC's URIs.
            ("ssl", "true") => push("sslmode", "require")?,
            _ => push(&name, value)?,
        }
    }
    Ok(parameters)
}

/// The error for lists of servers.
pub(super) fn several(parameter: &str) -> ConnInfoError {
    ConnInfoError::Unsupported {
        parameter: parameter.to_owned(),
        reason: "several servers in one string; a move needs one and the same server for all its connections, \
                 name that one",
    }
}

/// Undoes percent-encoding. `+` stands for itself, as in libpq.
fn decode(text: &str, part: &str) -> Result<Zeroizing<String>, ConnInfoError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(0), Some(0)) => return Err(syntax(format!("%00 in the {part} of the URI"))),
            #[expect(clippy::cast_possible_truncation, reason = "two hexadecimal digits are one byte")]
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return Err(syntax(format!("\"%\" without two hexadecimal digits in the {part} of the URI")));
            }
        }
    }
    match std::str::from_utf8(&bytes) {
        Ok(decoded) => Ok(Zeroizing::new(decoded.to_owned())),
        Err(_) => Err(syntax(format!("the {part} of the URI is not UTF-8 when decoded"))),
    }
}

/// `name = value` pairs. Values with spaces stand in single quotes; a backslash takes the next letter as it is.
fn keywords(text: &str) -> Result<Vec<Parameter>, ConnInfoError> {
    let mut parameters = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(char::is_ascii_whitespace).is_some() {}
        if letters.peek().is_none() {
            return Ok(parameters);
        }
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|&c| c != '=' && !c.is_ascii_whitespace()) {
            name.push(letter);
        }
        while letters.next_if(char::is_ascii_whitespace).is_some() {}
        if letters.next() != Some('=') {
            // Not the word itself: a mistake in quoting may have made it a piece of a password.
            return Err(syntax(format!(
                "no \"=\" after parameter {} of the keyword string",
                parameters.len() + 1
            )));
        }
        while letters.next_if(char::is_ascii_whitespace).is_some() {}

        let mut value = Zeroizing::new(String::new());
        let is_quoted = letters.next_if_eq(&'\'').is_some();
        loop {
            match letters.next() {
                Some('\\') => value.extend(letters.next()),
                Some('\'') if is_quoted => break,
                None if is_quoted => {
                    return Err(syntax(format!("the quote of parameter \"{name}\" does not end")));
                }
                None => break,
                Some(letter) if !is_quoted && letter.is_ascii_whitespace() => break,
                Some(letter) => value.push(letter),
            }
        }
        if value.contains('\0') {
            return Err(syntax(format!("zero byte in parameter \"{name}\"")));
        }
        parameters.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, ConnInfoError> {
        Ok(parameters(text)?.into_iter().map(|(name, value)| (name, value.to_string())).collect())
    }

    fn expected(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn uris_are_taken_apart_as_libpq_does() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("postgresql://", &[]),
            ("postgres://localhost", &[("host", "localhost")]),
            ("postgres://localhost:5433/db", &[("host", "localhost"), ("port", "5433"), ("dbname", "db")]),
            ("postgres://u@h", &[("user", "u"), ("host", "h")]),
            ("postgres://u:@h:/", &[("user", "u"), ("host", "h")]),
            ("postgres://u:p%40%3A%2Fss%25@h", &[("user", "u"), ("password", "p@:/ss%"), ("host", "h")]),
            ("postgres://u:a:b@h", &[("user", "u"), ("password", "a:b"), ("host", "h")]),
            ("postgres:///db", &[("dbname", "db")]),
            ("postgres://%2Fvar%2Frun/db", &[("host", "/var/run"), ("dbname", "db")]),
            ("postgres:///db?host=/tmp&port=1", &[("dbname", "db"), ("host", "/tmp"), ("port", "1")]),
            ("postgres://?user=u", &[("user", "u")]),
            ("postgres://[::1]:5433/db", &[("host", "::1"), ("port", "5433"), ("dbname", "db")]),
            ("postgres://[fe80::1%25eth0]", &[("host", "fe80::1%eth0")]),
            ("postgres://h/d%C3%A9?ssl=true", &[("host", "h"), ("dbname", "dé"), ("sslmode", "require")]),
            ("postgres://h?options=-c%20a%3Db+c&", &[("host", "h"), ("options", "-c a=b+c")]),
            ("postgres://h/a/b", &[("host", "h"), ("dbname", "a/b")]),
        ];
        for (text, list) in cases {
            assert_eq!(pairs(text), Ok(expected(list)), "{text}");
        }
    }

    #[test]
    fn keyword_strings_are_taken_apart_as_libpq_does() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("  ", &[]),
            ("host=h port = 5433\tuser =u", &[("host", "h"), ("port", "5433"), ("user", "u")]),
            (r"password='it\'s a \\ b' dbname=''", &[("password", r"it's a \ b"), ("dbname", "")]),
            (r"password=a\ b\'c'd", &[("password", "a b'c'd")]),
            (r"password=a\", &[("password", "a")]),
            ("options='-c geqo=off'", &[("options", "-c geqo=off")]),
            ("host=", &[("host", "")]),
            ("user='u'host=h", &[("user", "u"), ("host", "h")]),
        ];
        for (text, list) in cases {
            assert_eq!(pairs(text), Ok(expected(list)), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_without_showing_a_value() {
        let cases = [
            "geheim",
            "host=h geheim",
            "password='geheim",
            "=geheim\0",
            "postgres://u:geheim%@h",
            "postgres://u:geheim%2@h",
            "postgres://u:geheim%zz@h",
            "postgres://u:geheim%00@h",
            "postgres://u:geheim%ff@h",
            "postgres://u:geheim@[::1",
            "postgres://u:geheim@[]",
            "postgres://u:geheim@[::1]x",
            "postgres://u:geheim@h?user",
            "postgres://u:geheim@h?a=b=c",
            "postgres://u:x@geheim@h/db",
            "postgres://u:x@y/geheim@h/db",
            "postgres://u:x@y:geheim@h/db",
            "postgres://u:geheim/x@h/db",
            "postgres://u:geheim/x",
            "postgres://u:x/geheim@h/db",
            "postgres://u:1/geheim@h/db",
            "postgres://u:1/geheim@h?user=v",
            "postgres://u:geheim?x@h/db@",
            "postgres://u@h:geheim/db",
            "postgres://u@[::1]:geheim/db",
        ];
        for text in cases {
            let error = pairs(text).expect_err(text);
            assert!(matches!(error, ConnInfoError::Syntax(_)), "{text}: {error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn lists_of_servers_are_refused() {
        for text in ["postgres://a,b/db", "postgres://a:1,b:2/db", "postgres://[::1],b"] {
            assert_eq!(pairs(text), Err(several("host")), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(postgres://)?[a-z%:@/?&=\\[\\], '\\\\é]{0,40}") {
            let _ = parameters(&text);
        }

        #[test]
        fn an_encoded_password_comes_back(password in "\\PC{1,20}") {
            let encoded = password.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
            let text = format!("postgres://u:{encoded}@h");
            proptest::prop_assert_eq!(&pairs(&text).expect("it is well formed")[1].1, &password);
        }
    }
}

//! The request that becomes a websocket. kube's own `Client::connect` cannot name the protocol in it.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use kube::client::{Body, UpgradeConnectionError};
use kube::core::Status;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// SPDY in the messages of a websocket.
pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Sends the request. What it becomes has not been read from.
pub(super) async fn upgrade(client: &kube::Client, request: Request<Vec<u8>>) -> kube::Result<Upgraded> {
    let key = generate_key();
    let mut request = request.map(Body::from);
    for (name, value) in [
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, &key),
        (SEC_WEBSOCKET_PROTOCOL, PROTOCOL),
    ] {
        let value = HeaderValue::from_str(value).expect("no character of a key is forbidden in a header");
        request.headers_mut().insert(name, value);
    }
    let response = client.send(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    agreed(response.headers(), &key).map_err(kube::Error::UpgradeConnection)?;
    let connection = hyper::upgrade::on(response).await;
    connection
        .map_err(|error| kube::Error::UpgradeConnection(UpgradeConnectionError::GetPendingUpgrade(error)))
}

/// What the API server says, or what is between.
async fn refused(response: Response<Body>) -> kube::Error {
    let code = response.status();
    let is_error = code.is_client_error() || code.is_server_error();
    let body = match response.into_body().collect_bytes().await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) if is_error => kube::Error::Api(status.with_code(code.as_u16()).boxed()),
        // A node that does not know the protocol answers so, with nothing more, where its API server passes websockets on: no
        // right is missing. Nor does a proxy know of any.
        _ if !is_error || code == StatusCode::FORBIDDEN => {
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code))
        }
        _ => {
            let words = String::from_utf8_lossy(&body);
            kube::Error::Api(Status::failure(words.trim(), "").with_code(code.as_u16()).boxed())
        }
    }
}

/// Whether the answer is that of a websocket (RFC 6455, 4.1) that carries the protocol.
fn agreed(headers: &HeaderMap, key: &str) -> Result<(), UpgradeConnectionError> {
    let is = |name, expected: &str| {
        headers
            .get(name)
            .is_some_and(|value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(expected.as_bytes()))
    };
    if !is(UPGRADE, "websocket") {
        return Err(UpgradeConnectionError::MissingUpgradeWebSocketHeader);
    }
    if !is(CONNECTION, "upgrade") {
        return Err(UpgradeConnectionError::MissingConnectionUpgradeHeader);
    }
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(UpgradeConnectionError::SecWebSocketAcceptKeyMismatch);
    }
    if !is(SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        return Err(UpgradeConnectionError::SecWebSocketProtocolMismatch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::from(body.as_bytes().to_vec()));
        *response.status_mut() = StatusCode::from_u16(code).expect("a code");
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn only_a_websocket_that_carries_the_protocol_will_do() {
        // Key and answer of RFC 6455, 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let whole = [
            ("upgrade", "WebSocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", PROTOCOL),
        ];
        let outcome = |headers: &[_]| agreed(answer(101, headers, "").headers(), key);
        assert!(outcome(&whole).is_ok());
        for missing in 0..whole.len() {
            let mut headers = whole.to_vec();
            headers.remove(missing);
            assert!(outcome(&headers).is_err(), "{headers:?}");
        }
        let older = [&whole[..3], &[("sec-websocket-protocol", "v4.channel.k8s.io")]].concat();
        assert!(matches!(outcome(&older), Err(UpgradeConnectionError::SecWebSocketProtocolMismatch)));
    }

    #[tokio::test]
    async fn the_words_of_a_refusal_are_kept_whoever_speaks() {
        for (code, body, expected) in [
            (
                403,
                r#"{"kind":"Status","code":403,"message":"pods \"db-0\" is forbidden"}"#,
                "pods \"db-0\" is forbidden",
            ),
            (502, "<h1>Bad Gateway</h1>\n", "<h1>Bad Gateway</h1>"),
        ] {
            let kube::Error::Api(status) = refused(answer(code, &[], body)).await else { panic!("{body}") };
            assert_eq!((status.code, status.message.as_str()), (code, expected));
        }
        // Kubernetes before 1.31 passes the websocket on to the node, which does not know the protocol.
        for (code, body) in [(302, ""), (403, ""), (403, "<h1>Forbidden</h1>"), (200, "{}")] {
            let error = refused(answer(code, &[], body)).await;
            let kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(told)) = error else {
                panic!("{error}")
            };
            assert_eq!(told, code);
        }
    }
}

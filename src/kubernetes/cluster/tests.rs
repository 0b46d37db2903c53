use super::*;

fn spec() -> ClusterSpec {
    let cluster = include_str!("../../../tests/fixtures/kubernetes/cluster.json");
    serde_json::from_str::<cnpg::Cluster>(cluster).expect("a fixture is a Cluster").spec
}

fn data(pairs: &[(&str, &str)]) -> Data {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).into()))).collect()
}

fn secret(text: &str) -> SecretChoice {
    text.parse().expect("a Secret")
}

#[test]
fn keys_that_are_named_are_those_that_are_read() {
    let pairs = [("role", "immich"), ("pw", "hidden"), ("db", "photos"), ("username", "other")];
    let look = |text: &str| application("immich-postgres", &spec(), &secret(text), &data(&pairs));
    let found = look("mine:user=role,password=pw,database=db").expect("its keys are there");
    assert_eq!((&*found.user.value, &*found.database.value), ("immich", "photos"));
    assert_eq!(found.password.expect("a password").origin, "Secret mine, key pw");
    for (text, reason) in [
        ("mine:user=role", "it has no key password"),
        ("mine:user=role,password=secret", "it has no key secret"),
        ("mine:user=role,password=pw,database=name", "it has no key name"),
        ("mine:pw", "it is for role other, and the application's is immich"),
    ] {
        let error = look(text).expect_err(reason).to_string();
        assert!(error.ends_with(reason), "{text}: {error}");
    }
}

#[test]
fn the_applications_secret_is_taken() {
    let own =
        [("username", "immich"), ("password", "pw"), ("dbname", "immich"), ("host", "immich-postgres-rw")];
    let found = application("immich-postgres", &spec(), &secret("immich-postgres-app"), &data(&own))
        .expect("its own");
    assert_eq!((&*found.user.value, &*found.database.value), ("immich", "immich"));
    // One that was given when the Cluster was made has no more than a login.
    let found = application("immich-postgres", &spec(), &secret("mine"), &data(&own[..2])).expect("enough");
    assert_eq!(found.database.value, "immich");
    assert_eq!(found.database.origin, "spec.bootstrap of Cluster immich-postgres");
    assert!(!format!("{found:?}").contains("pw\""));
}

#[test]
fn a_legacy_applications_secret_is_refused() {
    for (pairs, reason) in [
        (&[("DB_USERNAME", "immich"), ("DB_PASSWORD", "hidden")][..], "it has no key username"),
        (&[("username", "immich")], "it has no key password"),
        (
            &[("username", "postgres"), ("password", "hidden")],
            "it is for role postgres, and the application's is immich",
        ),
        (
            &[("username", "immich"), ("password", "hidden"), ("host", "other-rw.media.svc")],
            "it is for host other-rw.media.svc",
        ),
    ] {
        let error = application("immich-postgres", &spec(), &secret("immich-secrets"), &data(pairs))
            .expect_err(reason);
        let ClusterError::NotTheApplications { reason: found, .. } = &error else { panic!("{error}") };
        assert_eq!(found, reason);
        assert_eq!(error.hint().as_deref(), Some("the Cluster's own is Secret immich-postgres-app"));
        assert!(!format!("{error:?}").contains("hidden"));
    }
}

#[test]
fn secrets_and_limits_are_those_of_the_cluster() {
    let mut spec = spec();
    assert_eq!(application_secret("c", &spec), "c-app");
    assert_eq!(superuser_secret("c", &spec), None, "the operator's default");
    spec.enable_superuser_access = Some(true);
    assert_eq!(superuser_secret("c", &spec).as_deref(), Some("c-superuser"));
    spec.superuser_secret = Some(cnpg::LocalName { name: "root".into() });
    assert_eq!(superuser_secret("c", &spec).as_deref(), Some("root"));
    let made = spec.bootstrap.as_mut().and_then(|made| made.initdb.as_mut()).expect("initdb");
    made.secret = Some(cnpg::LocalName { name: "mine".into() });
    assert_eq!(application_secret("c", &spec), "mine");
    assert_eq!(memory_limit(&spec), Some(2 << 30));
}

use serde_json::{Value, json};

use super::*;

const IMMICH: &str = include_str!("../../../tests/fixtures/kubernetes/immich-postgres-0.json");
const BITNAMI: &str = include_str!("../../../tests/fixtures/kubernetes/bitnami-0.json");

/// What must appear nowhere but in the password.
const PASSWORD: &str = "kM4:9$x/pa ss";

fn pod(text: &str, change: impl Fn(&mut Value)) -> Pod {
    let mut pod: Value = serde_json::from_str(text).expect("a fixture is JSON");
    change(&mut pod);
    serde_json::from_value(pod).expect("a fixture is a pod")
}

fn objects() -> Fetched {
    let data = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).into())));
        Some(pairs.collect::<Data>())
    };
    let secret = |name: &str, pairs| (Reference::Secret(name.to_owned()), data(pairs));
    Fetched::from([
        secret(
            "immich-secrets",
            &[
                ("DB_USERNAME", "immich"),
                ("DB_PASSWORD", PASSWORD),
                ("DB_DATABASE_NAME", "immich_production"),
                ("JWT_SECRET", "unrelated"),
            ],
        ),
        secret(
            "photos-postgresql",
            &[("password", &format!("{PASSWORD}\n")), ("postgres-password", "other")],
        ),
        secret("legacy", &[("pw", PASSWORD), ("login", "app"), ("db", "photos")]),
        secret(
            "app-login",
            &[("username", "app"), ("password", PASSWORD), ("dbname", "photos"), ("host", "x")],
        ),
        (Reference::ConfigMap("immich-settings".to_owned()), data(&[("database", "immich")])),
        (Reference::Secret("absent".to_owned()), None),
    ])
}

/// The login by what `objects` holds, and the objects that were read for it.
fn login(
    pod: &Pod,
    container: &str,
    secret: Option<&str>,
) -> (Result<Credentials, EnvironmentError>, Vec<String>) {
    let secret = secret.map(|text| text.parse::<SecretChoice>().expect("a choice"));
    let container =
        pod.spec.as_ref().expect("a spec").containers.iter().find(|known| known.name == container);
    let container = container.expect("a container of that name");
    let (mut fetched, all, mut asked) = (Fetched::new(), objects(), Vec::new());
    loop {
        match credentials(pod, container, secret.as_ref(), &fetched) {
            Ok(found) => return (Ok(found), asked),
            Err(Stop::Failed(error)) => return (Err(error), asked),
            Err(Stop::Need(need)) => {
                let data =
                    all.get(&need.reference).unwrap_or_else(|| panic!("{} is not there", need.reference));
                assert!(data.is_some() || need.is_optional, "{need:?}");
                asked.push(need.reference.to_string());
                fetched.insert(need.reference, data.clone());
            }
        }
    }
}

fn parts(found: &Credentials) -> (&str, Option<&str>, &str) {
    let password = found.password.as_ref().map(|known| known.value.expose_secret());
    (&found.user.value, password, &found.database.value)
}

#[test]
fn values_of_secrets_and_config_maps_are_followed() {
    let (found, asked) = login(&pod(IMMICH, |_| ()), "postgres", None);
    let found = found.expect("a login");
    assert_eq!(parts(&found), ("immich", Some(PASSWORD), "immich"));
    assert_eq!(found.user.origin, "POSTGRES_USER, from Secret immich-secrets, key DB_USERNAME");
    assert_eq!(found.database.origin, "POSTGRES_DB, from ConfigMap immich-settings, key database");
    assert_eq!(asked, ["Secret immich-secrets", "ConfigMap immich-settings"], "only what is used is read");
}

#[test]
fn files_of_mounted_secrets_are_read_without_their_last_line_break() {
    let (found, asked) = login(&pod(BITNAMI, |_| ()), "postgresql", None);
    let found = found.expect("a login");
    assert_eq!(parts(&found), ("photos", Some(PASSWORD), "photos_production"));
    let origin = found.password.expect("a password").origin;
    assert_eq!(origin, "POSTGRES_PASSWORD_FILE, from Secret photos-postgresql, key password");
    assert_eq!(asked, ["Secret photos-postgresql"]);
}

#[test]
fn files_under_another_name_and_of_projected_volumes_are_found() {
    let secret = json!({ "name": "photos-postgresql", "items": [{ "key": "password", "path": "password" }] });
    for volume in [
        json!({ "name": "postgresql-password", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token" } }, { "secret": secret }
        ] } }),
        json!({ "name": "postgresql-password", "secret": {
            "secretName": "photos-postgresql", "items": [{ "key": "password", "path": "password" }]
        } }),
    ] {
        let pod = pod(BITNAMI, |pod| pod["spec"]["volumes"][2] = volume.clone());
        let (found, _) = login(&pod, "postgresql", None);
        assert_eq!(parts(&found.expect("a login")).1, Some(PASSWORD), "{volume}");
    }
}

#[test]
fn a_file_that_no_object_holds_is_said() {
    let volume = json!({ "name": "postgresql-password", "csi": { "driver": "secrets-store.csi.k8s.io" } });
    let pod = pod(BITNAMI, |pod| pod["spec"]["volumes"][2] = volume.clone());
    let (found, _) = login(&pod, "postgresql", None);
    let error = found.expect_err("a file of another kind");
    assert_eq!(
        error.to_string(),
        "variable POSTGRES_PASSWORD_FILE takes its value from file /opt/bitnami/postgresql/secrets/password in volume \
         postgresql-password, which cannot be read through the API server"
    );
}

#[test]
fn a_whole_secret_and_references_between_variables_are_followed() {
    let pod = pod(IMMICH, |pod| {
        let container = &mut pod["spec"]["containers"][1];
        container["envFrom"] = json!([{ "secretRef": { "name": "absent", "optional": true } }, { "secretRef": {
            "name": "immich-secrets"
        } }]);
        container["env"] = json!([
            { "name": "POSTGRES_USER", "value": "$(DB_USERNAME)" },
            { "name": "POSTGRES_PASSWORD", "value": "$(DB_PASSWORD)" },
            { "name": "POSTGRES_DB", "value": "a$$(DB_USERNAME)-$(NOT_THERE)-$(POSTGRES_USER)-5$" },
        ]);
    });
    let (found, _) = login(&pod, "postgres", None);
    assert_eq!(
        parts(&found.expect("a login")),
        ("immich", Some(PASSWORD), "a$(DB_USERNAME)-$(NOT_THERE)-immich-5$")
    );
}

#[test]
fn what_applications_call_them_counts_where_the_images_names_are_not_set() {
    let pod = pod(IMMICH, |pod| {
        pod["spec"]["containers"][1]["env"] = json!([]);
        pod["spec"]["containers"][1]["envFrom"] = json!([{ "secretRef": { "name": "immich-secrets" } }]);
    });
    let (found, _) = login(&pod, "postgres", None);
    assert_eq!(parts(&found.expect("a login")), ("immich", Some(PASSWORD), "immich_production"));
}

#[test]
fn what_is_not_set_is_as_the_images_have_it() {
    let with = |image: &str, env: Value| {
        let pod = pod(IMMICH, |pod| {
            pod["spec"]["containers"][1]["image"] = image.into();
            pod["spec"]["containers"][1]["env"] = env.clone();
        });
        login(&pod, "postgres", None).0.expect("a login")
    };
    let official = with("postgres:16", json!([{ "name": "POSTGRES_USER", "value": "app" }]));
    assert_eq!(parts(&official), ("app", None, "app"), "the database has the user's name");
    let empty = with("postgres:16", json!([{ "name": "POSTGRES_USER", "value": "" }]));
    assert_eq!(parts(&empty), ("postgres", None, "postgres"));
    let bitnami = with(
        "bitnami/postgresql:16",
        json!([
            { "name": "POSTGRESQL_USERNAME", "value": "app" },
            { "name": "POSTGRESQL_PASSWORD", "value": PASSWORD },
        ]),
    );
    assert_eq!(parts(&bitnami), ("app", Some(PASSWORD), "postgres"));
}

#[test]
fn a_named_secret_goes_before_the_environment() {
    let pod = pod(IMMICH, |_| ());
    let (found, asked) = login(&pod, "postgres", Some("app-login"));
    assert_eq!(parts(&found.expect("a login")), ("app", Some(PASSWORD), "photos"));
    assert_eq!(asked, ["Secret app-login"], "the environment is not read");
    let (found, _) = login(&pod, "postgres", Some("legacy:pw"));
    assert_eq!(
        parts(&found.expect("a login")),
        ("immich", Some(PASSWORD), "immich"),
        "the rest is the environment's"
    );
    let (found, _) = login(&pod, "postgres", Some("legacy:user=login,password=pw,database=db"));
    assert_eq!(parts(&found.expect("a login")), ("app", Some(PASSWORD), "photos"));
}

#[test]
fn a_key_that_is_missing_is_named_with_those_there_are_and_no_value() {
    let pod = pod(IMMICH, |pod| {
        pod["spec"]["containers"][1]["env"][1]["valueFrom"]["secretKeyRef"]["key"] = "PASSWORD".into();
    });
    for (secret, expected) in [
        (
            None,
            "variable POSTGRES_PASSWORD takes its value from Secret immich-secrets, which has no key PASSWORD",
        ),
        (Some("legacy"), "the password takes its value from Secret legacy, which has no key password"),
        (Some("legacy:nope"), "the password takes its value from Secret legacy, which has no key nope"),
    ] {
        let error = login(&pod, "postgres", secret).0.expect_err("no such key");
        assert_eq!(error.to_string(), expected);
        let hint = CredentialError::from(error.clone()).hint().expect("a hint");
        assert!(hint.starts_with("it has ") && hint.contains(", "), "{hint}");
        assert!(!format!("{error:?} {hint}").contains(PASSWORD));
    }
}

#[test]
fn a_login_is_not_printed_with_its_password() {
    let (found, _) = login(&pod(BITNAMI, |_| ()), "postgresql", None);
    let printed = format!("{:?}", found.expect("a login"));
    assert!(printed.contains("photos_production") && !printed.contains(PASSWORD), "{printed}");
}

#[test]
fn a_secret_and_its_keys_are_read_as_they_are_written() {
    let choice = |text: &str| text.parse::<SecretChoice>();
    for text in ["name", "a.b-c:user=U,password=P.1,database=D_2", "name:password=KEY"] {
        assert_eq!(choice(text).expect(text).to_string(), text);
    }
    assert_eq!(choice("name:KEY"), choice("name:password=KEY"));
    for text in [
        "",
        ":KEY",
        "Name",
        "name:",
        "name:a b",
        "name:role=KEY",
        "name:user,password=P",
        "name:user=,password=P",
    ] {
        let error = choice(text).expect_err(text);
        assert!(error.hint().is_some_and(|hint| hint.contains("NAME:user=KEY")), "{text}");
    }
}

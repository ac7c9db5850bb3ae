use super::*;

fn settings() -> Settings {
    Settings {
        node_id: Some(1),
        data_dir: Some("/tmp/x".into()),
        initial_cluster: Some("1=127.0.0.1:7610,2=127.0.0.1:7611".into()),
        ..Settings::default()
    }
}

fn refused(change: impl FnOnce(&mut Settings)) -> String {
    let mut settings = settings();
    change(&mut settings);
    let failure = Plan::new(settings).err().expect("it is refused");
    assert_eq!(failure.code, crate::exit::USAGE);
    assert!(failure.hint.is_some(), "no hint: {}", failure.message);
    failure.message
}

#[test]
fn defaults_are_loopback() {
    let plan = Plan::new(settings()).unwrap();
    assert_eq!(
        (plan.listen.as_str(), plan.peer_listen.as_str()),
        (LISTEN, PEER_LISTEN)
    );
    assert_eq!(plan.global_prefix, "Evermind");
    assert_eq!(plan.cluster_secret, None);
}

#[test]
fn what_is_missing_is_named() {
    assert!(refused(|s| s.node_id = None).contains("--node-id"));
    assert!(refused(|s| s.data_dir = None).contains("--data-dir"));
    assert!(refused(|s| s.initial_cluster = None).contains("--initial-cluster"));
}

#[test]
fn threads_are_half_the_processors_or_what_was_asked_for() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let plan = Plan::new(settings()).unwrap();
    assert_eq!(plan.worker_threads, (processors / 2).max(1));
    let asked = Settings {
        worker_threads: Some(1024),
        ..settings()
    };
    assert_eq!(Plan::new(asked).unwrap().worker_threads, 1024);
    assert!(refused(|s| s.worker_threads = Some(0)).contains("--worker-threads"));
    assert!(refused(|s| s.worker_threads = Some(1025)).contains("--worker-threads"));
}

#[test]
fn reachable_from_outside_needs_a_secret() {
    for flag in ["--listen", "--peer-listen"] {
        let message = refused(|s| {
            let field = if flag == "--listen" {
                &mut s.listen
            } else {
                &mut s.peer_listen
            };
            *field = Some("0.0.0.0:7600".into());
        });
        assert!(
            message.starts_with(&format!("{flag} 0.0.0.0:7600")),
            "{message}"
        );
    }
    let mut settings = settings();
    settings.listen = Some("0.0.0.0:7600".into());
    settings.cluster_secret = Some("sixteen bytes ok".into());
    assert!(Plan::new(settings).is_ok());
}

#[test]
fn secrets_have_a_least_length() {
    assert!(refused(|s| s.cluster_secret = Some("fifteen bytes..".into())).contains("16 bytes"));
    for key in [
        "short",
        "with a blank in it",
        "sixteen chars ümlaut",
        &"x".repeat(257),
    ] {
        let message = refused(|s| s.bootstrap_api_key = Some(key.into()));
        assert!(message.contains("--bootstrap-api-key"), "{message}");
    }
}

#[test]
fn a_mistyped_bootstrap_key_is_told_from_one_of_another_make() {
    let key = evermind_api::Secret::new(evermind_api::SecretKind::ApiKey).unwrap();
    let mut settings = settings();
    settings.bootstrap_api_key = Some(key.text().into());
    assert!(Plan::new(settings).is_ok());
    let mistyped = key.text()[..61].to_owned() + "8";
    let message = refused(|s| s.bootstrap_api_key = Some(mistyped.clone()));
    assert!(
        message.contains("mistyped") && !message.contains(&mistyped),
        "{message}"
    );
}

#[test]
fn a_weak_admin_token_is_refused_and_not_shown() {
    for weak in ["", "0123456789abcdef0123456789abcde", &"ab".repeat(32)] {
        let message = refused(|s| s.admin_token = Some(weak.into()));
        assert!(message.starts_with("--admin-token: "), "{message}");
        assert!(weak.is_empty() || !message.contains(weak), "{message}");
    }
    let mut settings = settings();
    settings.admin_token = Some("0123456789abcdef".repeat(4));
    assert!(Plan::new(settings).unwrap().admin_token.is_some());
}

#[test]
fn the_founders_are_read_or_refused() {
    let read = founders(" 1=a:1, 2=b:2 ,3=[::1]:3,").unwrap();
    assert_eq!(
        read.into_values().collect::<Vec<_>>(),
        ["a:1", "b:2", "[::1]:3"]
    );
    for text in [
        "",
        "a:1",
        "0=a:1",
        "x=a:1",
        "1=a",
        "1=:1",
        "1=a:0",
        "1=a:99999",
        "1=a:1,1=b:1",
        "1=a:1,2=a:1",
    ] {
        let failure = founders(text).unwrap_err();
        assert!(failure.message.starts_with("--initial-cluster: "), "{text}");
    }
    assert!(refused(|s| s.node_id = Some(9)).contains("--node-id 9"));
    assert!(refused(|s| s.advertise_peer = Some("b:1".into())).contains("--advertise-peer b:1"));
}

#[test]
fn advertised_addresses_can_be_gone_to() {
    let addresses = |http: &str, advertise: Option<&str>| {
        let mut settings = settings();
        settings.initial_cluster = Some("1=n1:7610".into());
        settings.advertise_http = advertise.map(str::to_owned);
        let plan = Plan::new(settings).unwrap();
        plan.addresses(http.parse().unwrap(), "127.0.0.1:9".parse().unwrap())
    };
    let of = |http, advertise| addresses(http, advertise).unwrap().advertise_http;
    assert_eq!(of("127.0.0.1:7600", None), "http://127.0.0.1:7600");
    assert_eq!(of("[::1]:7600", None), "http://[::1]:7600");
    assert_eq!(of("0.0.0.0:7600", None), "http://n1:7600");
    assert_eq!(
        of("0.0.0.0:7600", Some("http://locks:80/")),
        "http://locks:80"
    );
    assert!(addresses("0.0.0.0:7600", Some("locks")).is_err());
}

#[test]
fn the_hash_is_of_the_key_alone() {
    let key = "evk_0123456789abcdef";
    let mut with_file = settings();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key}\n")).unwrap();
    with_file.bootstrap_api_key_file = Some(file.path().into());
    let mut with_text = settings();
    with_text.bootstrap_api_key = Some(key.into());
    let key_of = |settings| Plan::new(settings).unwrap().bootstrap_key;
    assert_eq!(key_of(with_file), key_of(with_text));
}

//! Claims about which values each source accepts, which source wins, and the messages for invalid values.

use super::{example::example, table::KEYS, *};
use crate::{limits, model::DeliveryMode};
use std::{fs, path::Path, time::Duration};

const FILE: &str = "gatecast.toml";

/// Loads a configuration from a file's text, variables and flags.
fn load(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Vec<_> = variables.iter().map(owned).collect();
    let flag = |(key, value): &(&str, &str)| FlagSetting {
        flag: "--set".to_owned(),
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    let flags: Vec<_> = flags.iter().map(flag).collect();
    let mut settings = source::from_text(file, Path::new(FILE))?;
    settings.extend(source::from_environment(&variables)?);
    settings.extend(source::from_flags(&flags)?);
    Config::from_settings(&settings)
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let file = "[limits]\nmax_connections = 1";
    let legacy = ("WEBSOCKET_WS_MAX_CONNECTIONS", "2");
    let variable = ("GATECAST_LIMITS_MAX_CONNECTIONS", "3");
    let flag = ("limits.max_connections", "4");
    let check = |file, variables: &[_], flags: &[_], expected| {
        assert_eq!(load(file, variables, flags).expect("it is valid").connections_max, expected);
    };
    check("", &[], &[], limits::CONNECTIONS_MAX);
    check(file, &[], &[], 1);
    check(file, &[legacy], &[], 2);
    check(file, &[variable, legacy], &[], 3);
    check(file, &[legacy, variable], &[], 3);
    check(file, &[legacy, variable], &[flag], 4);
    check(file, &[], &[flag, ("limits.max_connections", "5")], 5);
}

#[test]
fn variables_of_the_older_platform_still_work() {
    let config = load(
        "",
        &[
            ("WEBSOCKET_WS_MAX_CONNECTIONS", "2000"),
            ("WEBSOCKET_WS_CONNECTION_TIMEOUT", "45"),
            ("WEBSOCKET_WS_RATE_LIMIT_PER_MINUTE", "20"),
        ],
        &[],
    );
    let config = config.expect("it is valid");
    assert_eq!(config.connections_max, 2000);
    assert_eq!(config.heartbeat_timeout, Duration::from_secs(45));
    assert_eq!(config.rate_per_minute, 20);
}

#[test]
fn every_kind_of_value_is_parsed() {
    let config = load(
        r#"
listen = "[::]:1"
data = "/var/lib/gatecast"
cores = 3
origins = ["https://a.example", "http://localhost:3000"]
tls = { mode = "files", cert = "c.pem", key = "k.pem" }
admin.listen = "127.0.0.1:2"
[limits]
recent_bytes = "2MiB"
inbound_message_bytes = 4096
[heartbeat]
busy_grace = "1m"
[delivery]
mode = "processed"
window = 1024
processing_timeout = "1s"
replay_skip = ["api.deployed", "llm-*"]
poison_connections = 1000
poison_after = "0s"
[watchdog]
abort_after = "0s"
[log]
format = "json"
filter = "warn,gatecast=debug"
"#,
        &[],
        &[],
    );
    let config = config.expect("it is valid");
    assert_eq!(config.listen, "[::]:1".parse().expect("an address"));
    assert_eq!(config.data, Path::new("/var/lib/gatecast"));
    assert_eq!(config.cores, Some(3));
    assert_eq!(config.origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!(config.tls, Tls::Files { cert: "c.pem".into(), key: "k.pem".into() });
    assert_eq!(config.admin_listen, Some("127.0.0.1:2".parse().expect("an address")));
    assert_eq!(config.recent_bytes_max, 2 << 20);
    assert_eq!(config.inbound_message_bytes_max, 4096);
    assert_eq!(config.heartbeat_busy_grace, Duration::from_secs(60));
    assert_eq!(config.delivery_mode, DeliveryMode::Processed);
    assert_eq!(config.delivery_window, limits::DELIVERY_WINDOW_MAX);
    assert_eq!(config.delivery_processing_timeout, Duration::from_secs(1));
    assert_eq!(config.delivery_replay_skip, ["api.deployed", "llm-*"]);
    assert_eq!(config.delivery_poison_connections, 1_000);
    assert_eq!(config.delivery_poison_after, Duration::ZERO);
    assert_eq!(config.watchdog_abort_after, Duration::ZERO);
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.log_filter, "warn,gatecast=debug");
}

#[test]
fn integers_are_parsed_in_every_notation_of_toml() {
    let check = |file: &str, expected| {
        assert_eq!(load(file, &[], &[]).expect(file).cores, Some(expected), "{file}");
    };
    check("cores = 1_0", 10);
    check("cores = 0x10", 16);
    check("cores = +3", 3);
    check("cores = 0b11", 3);
}

#[test]
fn tls_is_off_only_if_its_mode_says_so() {
    let check = |file, flags: &[_], expected| assert_eq!(load(file, &[], flags).expect("it is valid").tls, expected);
    let files = "[tls]\ncert = \"c\"\nkey = \"k\"";
    check("", &[], Tls::SelfSigned);
    check(files, &[], Tls::Files { cert: "c".into(), key: "k".into() });
    check("tls = \"off\"", &[], Tls::Off);
    check("[tls]\nmode = \"off\"", &[], Tls::Off);
    check(files, &[("tls", "off")], Tls::Off);
    check(files, &[("tls.mode", "self-signed")], Tls::SelfSigned);
}

#[test]
fn an_invalid_file_is_refused_with_key_value_line_and_what_was_expected() {
    let check = |file: &str, expected: &str| {
        assert_eq!(load(file, &[], &[]).expect_err(file).to_string(), expected);
    };
    check(
        "\n[limits]\nmax_connections = 0",
        "invalid `limits.max_connections` = 0 (gatecast.toml:3): expected an integer from 1 to 10000000",
    );
    check(
        "[limits]\nmax_connections = \"many\"",
        "invalid `limits.max_connections` = \"many\" (gatecast.toml:2): expected an integer from 1 to 10000000",
    );
    check(
        "[limits]\nmax_connections = \"1000\"",
        "invalid `limits.max_connections` = \"1000\" (gatecast.toml:2): expected an integer from 1 to 10000000",
    );
    check("cores = -1", "invalid `cores` = -1 (gatecast.toml:1): expected an integer from 0 to 1024");
    check("cores = 1.5", "invalid `cores` = 1.5 (gatecast.toml:1): expected an integer from 0 to 1024");
    check(
        "[heartbeat]\ninterval = 20",
        "invalid `heartbeat.interval` = 20 (gatecast.toml:2): \
         expected a duration from 10ms to 30s such as \"250ms\", \"20s\" or \"5m\"",
    );
    check(
        "listen = \"9243\"",
        "invalid `listen` = \"9243\" (gatecast.toml:1): \
         expected an IP address and port such as \"0.0.0.0:9243\" or \"[::]:9243\"",
    );
    check("[log]\nformat = \"xml\"", "invalid `log.format` = \"xml\" (gatecast.toml:2): expected \"text\" or \"json\"");
    check(
        "[limits]\nmax_conections = 5",
        "unknown key `limits.max_conections` (gatecast.toml:2): did you mean `limits.max_connections`?",
    );
    check(
        "max_connections = 5",
        "unknown key `max_connections` (gatecast.toml:1): did you mean `limits.max_connections`?",
    );
    check("[zzz]\nq = 1", "unknown key `zzz` (gatecast.toml:1)");
    check(
        "[heartbeat]\ntimeout = \"20s\"",
        "invalid `heartbeat.timeout` = \"20s\" (gatecast.toml:2): \
         expected a duration longer than `heartbeat.interval` = \"20s\" (the default)",
    );
    check(
        "[watchdog]\nabort_after = \"500ms\"",
        "invalid `watchdog.abort_after` = \"500ms\" (gatecast.toml:2): \
         expected \"2s\" or more, or \"0s\" to disable the watchdog",
    );
    for (listen, admin) in [("127.0.0.1:9", "127.0.0.1:9"), ("0.0.0.0:9", "127.0.0.1:9"), ("127.0.0.1:9", "0.0.0.0:9")]
    {
        check(
            &format!("listen = \"{listen}\"\n[admin]\nlisten = \"{admin}\""),
            &format!(
                "invalid `admin.listen` = \"{admin}\" (gatecast.toml:3): expected an address that does not overlap \
                 `listen` = \"{listen}\" (gatecast.toml:1): choose another port, or leave it out"
            ),
        );
    }
    check("[tls]\ncert = \"c\"", "missing `tls.key`: set both `tls.cert` and `tls.key`, or neither (gatecast.toml:2)");
    check(
        "[tls]\nmode = \"files\"",
        "missing `tls.cert` and `tls.key`: `tls.mode` = \"files\" needs both (gatecast.toml:2)",
    );
    assert!(matches!(load("listen = ", &[], &[]), Err(ConfigError::NotToml { .. })));
    assert!(matches!(load("cores = 1\ncores = 2", &[], &[]), Err(ConfigError::NotToml { .. })));
}

#[test]
fn an_invalid_variable_or_flag_is_named() {
    let check = |variables: &[_], flags: &[_], expected: &str| {
        assert_eq!(load("", variables, flags).expect_err(expected).to_string(), expected);
    };
    check(
        &[("GATECAST_CORES", "two")],
        &[],
        "invalid `cores` = \"two\" (environment variable GATECAST_CORES): expected an integer from 0 to 1024",
    );
    check(
        &[("GATECAST_HEARTBEAT_TIMEUOT", "1s")],
        &[],
        "unknown key `heartbeat.timeuot` (environment variable GATECAST_HEARTBEAT_TIMEUOT): \
         did you mean `heartbeat.timeout`?",
    );
    check(
        &[("WEBSOCKET_WS_CONNECTION_TIMEOUT", "15")],
        &[],
        "invalid `heartbeat.timeout` = \"15s\" (environment variable WEBSOCKET_WS_CONNECTION_TIMEOUT): \
         expected a duration longer than `heartbeat.interval` = \"20s\" (the default)",
    );
    check(
        &[],
        &[("limits.rate_per_minute", "-1")],
        "invalid `limits.rate_per_minute` = \"-1\" (flag --set): expected an integer from 0 to 1000000",
    );
    check(
        &[],
        &[("origins", "[\"https://console.example.com\"]")],
        "invalid `origins` = \"[\\\"https://console.example.com\\\"]\" (flag --set): expected a list of origins, each http:// or \
         https:// with a host, perhaps a port, and no path, as \"https://console.example.com\"; \
         separated by commas in a flag or a variable, as [\"…\", \"…\"] in a file",
    );
    check(&[], &[("drain.windw", "1s")], "unknown key `drain.windw` (flag --set): did you mean `drain.window`?");
}

#[test]
fn the_types_that_a_replay_skips_are_types_or_prefixes_and_may_be_none() {
    let check = |value: &str, expected: Option<&[&str]>| {
        let config = load("", &[("GATECAST_DELIVERY_REPLAY_SKIP", value)], &[]).ok();
        assert_eq!(
            config.map(|config| config.delivery_replay_skip),
            expected.map(|kinds| kinds.iter().map(|kind| (*kind).to_owned()).collect()),
            "{value:?}"
        );
    };
    check("", Some(&[]));
    check("apikey.*, api.deployed", Some(&["apikey.*", "api.deployed"]));
    check("a*", Some(&["a*"]));
    for refused in ["*", "a**", "*.deleted", "a*b", "a b", "api.déployed", &"a".repeat(129)] {
        check(refused, None);
    }
    let longest = format!("{}*", "a".repeat(128));
    check(&longest, Some(&[&longest]));
    assert_eq!(load("delivery.replay_skip = []", &[], &[]).expect("it is valid").delivery_replay_skip, [""; 0]);
}

#[test]
fn the_keys_of_delivery_are_bounded() {
    let check = |file: &str, expected: &str| {
        let error = load(file, &[], &[]).expect_err(file).to_string();
        assert_eq!(error.split_once("expected ").map(|(_, expected)| expected), Some(expected), "{file}");
    };
    check("delivery.mode = \"sent\"", "\"written\" or \"processed\"");
    for window in [0, limits::DELIVERY_WINDOW_MAX + 1] {
        check(&format!("delivery.window = {window}"), "an integer from 1 to 1024");
    }
    for timeout in ["999ms", "61m"] {
        let expected = "a duration from 1s to 1h such as \"250ms\", \"20s\" or \"5m\"";
        check(&format!("delivery.processing_timeout = \"{timeout}\""), expected);
    }
    for connections in [0, 1_001] {
        check(&format!("delivery.poison_connections = {connections}"), "an integer from 1 to 1000");
    }
    check("delivery.poison_after = \"25h\"", "a duration from 0s to 24h such as \"250ms\", \"20s\" or \"5m\"");
    check(
        "delivery.replay_skip = [\"*\"]",
        "a list of event types such as \"api.deployed\", or prefixes of types that end in * such as \"apikey.*\"; separated by \
         commas in a flag or a variable, as [\"…\", \"…\"] in a file",
    );
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let others = [
        ("PATH", "/bin"),
        ("GATECAST_ADMIN_TOKEN", "secret"),
        ("GATECAST_PORT", "tcp://10.0.0.1:9243"),
        ("GATECAST_SERVICE_HOST", "10.0.0.1"),
        ("GATECAST_HUB_SERVICE_PORT_HTTPS", "9243"),
        ("GATECAST_PORT_9243_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(load("", &others, &[]), Ok(Config::default()));
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources { file: Some("/nowhere/at/all.toml".into()), ..Sources::default() };
    let error = Config::load(&sources).expect_err("there is no such file").to_string();
    assert!(error.starts_with("cannot read the configuration file /nowhere/at/all.toml: "), "{error}");
}

#[test]
fn the_example_file_has_every_key_at_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gatecast.example.toml");
    if std::env::var_os("GATECAST_WRITE_EXAMPLE").is_some() {
        fs::write(&path, example()).expect("docs can be written");
    }
    let text = fs::read_to_string(&path).expect("the example is there");
    assert_eq!(text, example(), "run this test with GATECAST_WRITE_EXAMPLE=1 to write the example again");
    assert_eq!(load(&text, &[], &[]), Ok(Config::default()));

    let bare =
        |line: &str| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).map(str::to_owned);
    let uncommented: Vec<_> = text.lines().map(|line| bare(line).unwrap_or_else(|| line.to_owned())).collect();
    let uncommented = uncommented.join("\n");
    assert_eq!(load(&uncommented, &[], &[]), Ok(Config::default()));

    let set = source::from_text(&uncommented, Path::new(FILE)).expect("it is valid");
    for key in KEYS {
        assert!(text.contains(&key.variable()), "{}", key.name);
        let has_default = !matches!(key.kind, kind::Kind::OptionalPath(_));
        assert_eq!(set.iter().any(|setting| setting.key.name == key.name), has_default, "{}", key.name);
    }
}

#[test]
fn the_url_of_an_unspecified_address_is_loopback() {
    let check = |addr: &str, tls, expected: &str| {
        let config = Config { tls, ..Config::default() };
        assert_eq!(config.url(addr.parse().expect("an address")), expected);
    };
    check("0.0.0.0:9243", Tls::SelfSigned, "https://127.0.0.1:9243");
    check("[::]:9243", Tls::SelfSigned, "https://[::1]:9243");
    check("10.1.2.3:80", Tls::Off, "http://10.1.2.3:80");
}

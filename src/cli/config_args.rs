//! The flags of the commands that need a configuration.

use super::{Failure, endpoint};
use crate::config::{Config, FlagSetting, Sources};
use clap::Args;
use std::path::PathBuf;

/// The flags of the commands that need a configuration.
#[derive(Args, Clone, Default)]
pub struct ConfigArgs {
    /// Configuration file in TOML [default: $GATECAST_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the store, the admin token and the self-signed certificate
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Address that gateways connect to, such as 0.0.0.0:9243
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Number of cores to use, with one shard on each; 0 uses all
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// PEM file with the certificate chain
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// PEM file with the private key
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// auto, self-signed, files, or off (behind a proxy that terminates TLS)
    #[arg(long, value_name = "MODE")]
    pub tls: Option<String>,
    /// Most gateway connections at the same time
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Most connection attempts of one address in a minute; 0 disables the limit
    #[arg(long, value_name = "N")]
    pub rate_limit_per_minute: Option<String>,
    /// Format of the log on standard error: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Set any key of the configuration file, such as heartbeat.interval=10s; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as heartbeat.interval=10s")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

impl ConfigArgs {
    /// Loads the configuration from the file, the environment and these flags.
    ///
    /// # Errors
    /// The first mistake found in them.
    pub fn load(&self) -> Result<Config, Failure> {
        let file = self.config.clone().or_else(|| endpoint::process_variable("GATECAST_CONFIG").map(PathBuf::from));
        let sources = Sources::of_process(file, self.flags());
        Config::load(&sources).map_err(|error| Failure::Usage(error.to_string()))
    }

    fn flags(&self) -> Vec<FlagSetting> {
        // A later entry overrides an earlier one. A key's own flag overrides `--set`, wherever they stand on the line:
        // clap's derived struct does not keep the order of different flags.
        let set = self.set.iter().map(|(key, value)| ("--set", key.as_str(), Some(value)));
        let own_flags = [
            ("--data", "data", &self.data),
            ("--listen", "listen", &self.listen),
            ("--cores", "cores", &self.cores),
            ("--tls-cert", "tls.cert", &self.tls_cert),
            ("--tls-key", "tls.key", &self.tls_key),
            ("--tls", "tls.mode", &self.tls),
            ("--max-connections", "limits.max_connections", &self.max_connections),
            ("--rate-limit-per-minute", "limits.rate_per_minute", &self.rate_limit_per_minute),
            ("--log-format", "log.format", &self.log_format),
        ];
        let all = set.chain(own_flags.into_iter().map(|(flag, key, value)| (flag, key, value.as_ref())));
        let setting = |(flag, key, value): (&str, &str, Option<&String>)| {
            Some(FlagSetting { flag: flag.to_owned(), key: key.to_owned(), value: value?.clone() })
        };
        all.filter_map(setting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tls;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: ConfigArgs,
    }

    fn load(line: &str) -> Result<Config, String> {
        let arguments = Line::try_parse_from(std::iter::once("serve").chain(line.split_whitespace()));
        let flags = arguments.map_err(|error| error.to_string())?.config.flags();
        Config::load(&Sources { flags, ..Sources::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_sets_its_key() {
        let config = load(
            "--data d --listen 127.0.0.1:0 --cores 2 --tls-cert c --tls-key k --max-connections 7 \
             --rate-limit-per-minute 8 --log-format json --set drain.window=0s --set limits.max_connections=1",
        );
        let config = config.expect("it is valid");
        assert_eq!(config.data, PathBuf::from("d"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.cores, Some(2));
        assert_eq!(config.tls, Tls::Files { cert: "c".into(), key: "k".into() });
        assert_eq!(config.connections_max, 7, "the key's own flag overrides --set");
        assert_eq!(config.rate_per_minute, 8);
        assert_eq!(config.log_format, crate::config::LogFormat::Json);
        assert!(config.drain_window.is_zero());
        assert_eq!(load("--tls off").expect("it is valid").tls, Tls::Off);
    }

    #[test]
    fn an_invalid_value_names_its_flag() {
        let check = |line: &str, expected: &str| {
            let error = load(line).expect_err(line);
            assert!(error.contains(expected), "{error}");
        };
        check("--cores many", "invalid `cores` = \"many\" (flag --cores): expected an integer from 0 to 1024");
        check("--tls none", "invalid `tls.mode` = \"none\" (flag --tls): expected \"auto\"");
        check("--set a.b=c", "unknown key `a.b` (flag --set)");
    }
}

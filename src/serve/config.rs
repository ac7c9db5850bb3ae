//! Flags over variables over the file.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args as _, CommandFactory as _, FromArgMatches as _};

use super::Settings;
use crate::exit::Failure;

/// The settings of all three layers.
pub(crate) fn layered(flags: Settings, file: Option<&Path>) -> Result<Settings, Failure> {
    flags.check_pairs("flags")?;
    let variables = variables(|name| std::env::var_os(name))?;
    let file = match file {
        Some(path) => read(path)?,
        None => Settings::default(),
    };
    Ok(flags.over(variables).over(file))
}

/// The settings that variables give: `EVERMIND_NODE_ID` is read exactly as `--node-id` is. Empty
/// is the same as unset. `EVERMIND_LOG` is short for `EVERMIND_LOG_LEVEL`.
fn variables(read: impl Fn(&str) -> Option<OsString>) -> Result<Settings, Failure> {
    let command = Settings::augment_args(clap::Command::new("evermind").no_binary_name(true));
    let mut words: Vec<OsString> = Vec::new();
    let mut given = Vec::new();
    for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
        let name = variable(flag);
        let short = (flag == "log-level")
            .then(|| read("EVERMIND_LOG"))
            .flatten();
        let Some(value) = read(&name).or(short).filter(|value| !value.is_empty()) else {
            continue;
        };
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        words.push(word);
        given.push(name);
    }
    let settings = command
        .try_get_matches_from(words)
        .and_then(|matches| Settings::from_arg_matches(&matches))
        .map_err(|error| {
            let text = error.to_string();
            let first = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Failure::usage(format!("{first} (given as a variable)"))
                .hint(format!("these are set: {}", given.join(", ")))
        })?;
    settings.check_pairs("variables")?;
    Ok(settings)
}

/// What to say of variables that look like ours and are not: a mistyped one would do nothing.
pub(crate) fn unknown_variables() -> Vec<String> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown(set)
}

fn unknown(set: impl Iterator<Item = String>) -> Vec<String> {
    // The last four are read by commands, or set by `lock run` for its own.
    let mut known: Vec<String> = [
        "EVERMIND_LOG",
        "EVERMIND_CONFIG",
        "EVERMIND_API_KEY",
        "EVERMIND_API_KEY_FILE",
        "EVERMIND_LOCK_KEY",
        "EVERMIND_FENCING_TOKEN",
    ]
    .map(Into::into)
    .into();
    let settings = Settings::augment_args(clap::Command::new("evermind"));
    let flags = settings.get_arguments().filter_map(clap::Arg::get_long);
    known.extend(flags.map(variable));
    // Those of other commands, which may be set in the same place.
    known.extend(variables_of(&crate::Cli::command()));
    let plain = |name: &str| name.replace('_', "");
    let unknown = set.filter(|name| name.starts_with("EVERMIND_") && !known.contains(name));
    unknown
        .map(|name| {
            let meant = known.iter().find(|known| plain(known) == plain(&name));
            let hint = meant.map_or_else(
                || "`evermind serve --help` lists the settings".to_owned(),
                |meant| format!("{meant} may be meant"),
            );
            format!("the variable {name} is not known and does nothing: {hint}")
        })
        .collect()
}

fn variables_of(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let mut names: Vec<String> = own
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.extend(command.get_subcommands().flat_map(variables_of));
    names
}

fn variable(flag: &str) -> String {
    format!("EVERMIND_{}", flag.replace('-', "_").to_uppercase())
}

fn read(path: &Path) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "cannot read the file of --config, {}: {error}",
            path.display()
        ))
        .hint("--config takes a TOML file with lines such as: node-id = 1")
    })?;
    parse(&text).map_err(|mut failure| {
        failure.message = format!("{}: {}", path.display(), failure.message);
        failure
    })
}

fn parse(text: &str) -> Result<Settings, Failure> {
    let settings: Settings = toml::from_str(text).map_err(|error| {
        Failure::usage(error.to_string().trim_end().to_owned())
            .hint("the file takes the flags' names without the dashes in front, as in node-id = 1")
    })?;
    settings.check_pairs("file")?;
    Ok(settings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::serve::settings::LogFormat;

    fn from(pairs: &'static [(&str, &str)]) -> Result<Settings, Failure> {
        variables(|name| {
            pairs
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
        let flags = Settings {
            node_id: Some(1),
            ..Settings::default()
        };
        let variables = from(&[
            ("EVERMIND_NODE_ID", "2"),
            ("EVERMIND_LISTEN", "b:1"),
            ("EVERMIND_LOG", "debug"),
        ])
        .unwrap();
        let file = parse("node-id = 3\nlisten = 'c:1'\npeer-listen = 'c:2'\nlog-format = 'json'");
        let all = flags.over(variables).over(file.unwrap());
        assert_eq!(all.node_id, Some(1));
        assert_eq!(all.listen.as_deref(), Some("b:1"));
        assert_eq!(all.peer_listen.as_deref(), Some("c:2"));
        assert_eq!(all.log_format, Some(LogFormat::Json));
        assert_eq!(all.log_level.as_deref(), Some("debug"));
    }

    #[test]
    fn a_secret_of_a_higher_layer_hides_the_file_of_a_lower() {
        let variables = from(&[("EVERMIND_CLUSTER_SECRET", "sixteen bytes ok")]).unwrap();
        let file = parse("cluster-secret-file = '/etc/secret'").unwrap();
        let all = variables.over(file);
        assert_eq!(all.cluster_secret.as_deref(), Some("sixteen bytes ok"));
        assert_eq!(all.cluster_secret_file, None);
    }

    #[test]
    fn both_forms_in_one_layer_are_refused() {
        let error = parse("cluster-secret = 'a'\ncluster-secret-file = 'b'").unwrap_err();
        assert!(
            error
                .message
                .contains("both cluster-secret and cluster-secret-file")
        );
    }

    #[test]
    fn a_rate_limit_is_read_the_same_from_everywhere() {
        let variables = from(&[("EVERMIND_RATE_LIMIT", "100/s")]).unwrap();
        let file = parse("rate-limit = '100/s'").unwrap();
        assert!(variables.rate_limit.is_some());
        assert_eq!(variables.rate_limit, file.rate_limit);
        for error in [
            from(&[("EVERMIND_RATE_LIMIT", "100")]).unwrap_err(),
            parse("rate-limit = '100'").unwrap_err(),
        ] {
            assert!(error.message.contains("as in 100/s"), "{}", error.message);
        }
    }

    #[test]
    fn origins_are_a_list_in_every_layer() {
        let variables =
            from(&[("EVERMIND_CORS_ORIGIN", "https://a.example,http://b:3000")]).unwrap();
        let file = parse("cors-origin = ['https://a.example', 'http://b:3000']").unwrap();
        assert_eq!(variables.cors_origin.as_ref().unwrap().len(), 2);
        assert_eq!(variables.cors_origin, file.cors_origin);
        for error in [
            from(&[("EVERMIND_CORS_ORIGIN", "https://a.example/")]).unwrap_err(),
            parse("cors-origin = ['https://a.example/']").unwrap_err(),
        ] {
            assert!(
                error.message.contains("as in https://"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = parse("node-id = 1\nnode_name = 'x'").unwrap_err();
        assert!(error.message.contains("node_name"), "{}", error.message);
        assert!(error.message.contains("line 2"), "{}", error.message);
    }

    #[test]
    fn a_bad_variable_is_refused_by_name() {
        let error = from(&[("EVERMIND_NODE_ID", "one")]).unwrap_err();
        assert!(error.message.contains("--node-id"), "{}", error.message);
        assert!(error.hint.unwrap().contains("EVERMIND_NODE_ID"));
    }

    #[test]
    fn a_mistyped_variable_is_told_with_what_may_be_meant() {
        let set = [
            "EVERMIND_RATELIMIT",
            "EVERMIND_API_KEY",
            "EVERMIND_LOG",
            "EVERMIND_NODE_ID",
            "HOME",
        ];
        let told = unknown(set.map(Into::into).into_iter());
        assert_eq!(
            told,
            [
                "the variable EVERMIND_RATELIMIT is not known and does nothing: EVERMIND_RATE_LIMIT may be meant"
            ]
        );
    }

    #[test]
    fn an_empty_variable_is_unset() {
        assert_eq!(
            from(&[("EVERMIND_NODE_ID", "")]).unwrap(),
            Settings::default()
        );
    }

    #[test]
    fn a_variable_may_start_with_a_dash() {
        let settings = from(&[("EVERMIND_CLUSTER_SECRET", "-starts-with-a-dash")]).unwrap();
        assert_eq!(
            settings.cluster_secret.as_deref(),
            Some("-starts-with-a-dash")
        );
    }
}

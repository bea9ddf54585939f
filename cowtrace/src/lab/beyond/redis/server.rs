//! A Redis of our own, under the tracer: no network, nothing on disk but a folder that goes with it.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, Reply};
use crate::{
    lab::{
        beyond::installed,
        experiment::Lab,
        story::Story,
        workload::{Program, Service},
    },
    ledger::Known,
};

/// Programs that are the server. The last ones are, too, if they are called by another name: Debian has the server's
/// program in the package with the tools, under this name, and a package with a link to it and a system service.
const PROGRAMS: [&str; 4] = ["redis-server", "valkey-server", "redis-check-rdb", "valkey-check-rdb"];

/// What the server's processes are called.
const ROLES: [&str; 2] = ["server", "child"];

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions to a server that is at work.
const GLANCE: Duration = Duration::from_millis(20);

/// A running server.
pub(super) struct Server {
    pub service: Service,
    pub client: Client,
    _folder: TempDir,
}

/// What `INFO` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Info(HashMap<String, String>);

/// A program that can be started as server.
pub(super) struct Installed {
    folder: TempDir,
    program: PathBuf,
    /// As it names itself: `Redis server v=7.0.15`.
    pub version: String,
}

impl Installed {
    /// The first one that there is, or what is wrong with it.
    pub fn find() -> anyhow::Result<Result<Installed, String>> {
        let Some(program) = installed::find(&PROGRAMS) else {
            return Ok(Err("neither redis-server nor valkey-server is on PATH".to_owned()));
        };
        let folder = tempfile::Builder::new()
            .prefix("cowtrace-redis-")
            .tempdir()
            .context("cannot create a temporary folder for the server")?;
        // The program looks at the name that it is started by.
        let link = folder.path().join("redis-server");
        symlink(&program, &link).with_context(|| format!("cannot create {}", link.display()))?;
        let version = Command::new(&link)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let version = short_version(&String::from_utf8_lossy(&version.stdout));
        let lack = || format!("{} does not say its version", program.display());
        Ok(version.map(|version| Installed { folder, program: link, version }).ok_or_else(lack))
    }

    /// Starts it; `key_delay` as `rdb-key-save-delay` has it.
    pub fn start(self, lab: &mut Lab<'_>, key_delay: i64) -> anyhow::Result<Server> {
        let Installed { folder, program, .. } = self;
        let socket = folder.path().join("socket");
        let log = folder.path().join("log");
        let mut args: Vec<OsString> = vec!["--unixsocket".into(), socket.clone().into()];
        args.extend(["--dir".into(), folder.path().into(), "--logfile".into(), log.clone().into()]);
        let settings = [
            // No network.
            ["--port", "0"],
            // It saves when it is told to, and only then.
            ["--save", ""],
            ["--appendonly", "no"],
            ["--daemonize", "no"],
        ];
        args.extend(settings.into_iter().flatten().map(OsString::from));
        args.extend(["--rdb-key-save-delay".into(), key_delay.to_string().into()]);
        let mut service = lab.start_service(&Program { path: &program, args, roles: &ROLES })?;
        // The allocator gives memory back, and takes it again.
        service.known(Known { may_discard: true, ..Known::default() });
        let client = connect(&mut service, &socket).with_context(|| last_words(&log))?;
        Ok(Server { service, client, _folder: folder })
    }
}

impl Server {
    pub fn info(&mut self) -> anyhow::Result<Info> {
        match self.client.command(&["INFO"])? {
            Reply::Text(text) => Ok(Info::parse(&text)),
            other => bail!("the server answered INFO with {other:?}"),
        }
    }

    /// Waits until the save is over, and looks at what the server says of it, the last time when it is.
    pub fn wait_for_save(
        &mut self,
        patience: Duration,
        mut look: impl FnMut(&Info) -> anyhow::Result<()>,
    ) -> anyhow::Result<Info> {
        let deadline = Instant::now() + patience;
        loop {
            self.service.wait(GLANCE)?;
            let info = self.info()?;
            look(&info)?;
            if info.number("rdb_bgsave_in_progress")? == 0 {
                let outcome = info.text("rdb_last_bgsave_status")?;
                ensure!(outcome == "ok", "the server could not save: rdb_last_bgsave_status is {outcome}");
                return Ok(info);
            }
            ensure!(Instant::now() < deadline, "the save took more than {} s", patience.as_secs());
        }
    }

    /// Ends it.
    pub fn finish(self) -> anyhow::Result<(Story, Value)> {
        self.client.last_command(&["SHUTDOWN", "NOSAVE"])?;
        self.service.finish()
    }
}

impl Info {
    fn parse(text: &str) -> Info {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Info(fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    pub fn text(&self, field: &str) -> anyhow::Result<&str> {
        self.0.get(field).map(String::as_str).with_context(|| format!("the server's INFO has no {field}"))
    }

    pub fn number(&self, field: &str) -> anyhow::Result<u64> {
        let text = self.text(field)?;
        text.parse().with_context(|| format!("{field} of the server's INFO is no number: {text}"))
    }
}

fn connect(service: &mut Service, socket: &Path) -> anyhow::Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        service.wait(GLANCE)?;
        let error = match Client::connect(socket) {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(error);
        }
    }
}

/// The end of its log, for an error.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(3)..];
    format!("the server did not come up; the end of its log: {}", end.join(" | "))
}

/// `Redis server v=7.0.15` of what `--version` prints; `None` if that is no server's.
fn short_version(text: &str) -> Option<String> {
    let (name, rest) = text.split_once(" server v=")?;
    Some(format!("{} {}", name.trim(), rest.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_version() {
        let line = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d\n";
        assert_eq!(short_version(line).as_deref(), Some("Redis 7.0.15"));
        assert_eq!(short_version("Valkey server v=8.1.1 sha=0").as_deref(), Some("Valkey 8.1.1"));
        assert_eq!(short_version("Usage: redis-check-rdb <rdb-file-name>\n"), None);
    }

    #[test]
    fn info_has_fields_and_headings() {
        let info =
            Info::parse("# Persistence\r\nrdb_last_cow_size:9134080\r\nrdb_last_bgsave_status:ok\r\n\r\n");
        assert_eq!(info.number("rdb_last_cow_size").unwrap(), 9_134_080);
        assert_eq!(info.text("rdb_last_bgsave_status").unwrap(), "ok");
        assert!(info.number("rdb_last_bgsave_status").is_err());
        assert!(info.text("nothing").unwrap_err().to_string().contains("no nothing"));
    }
}

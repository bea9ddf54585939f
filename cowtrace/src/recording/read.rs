//! Reading: a recording, or why a file is none.

use std::{fs::File, io::Read as _, path::Path};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row,
    types::{Type, ValueRef},
};

use super::{
    ReadError,
    schema::{APPLICATION_ID, KINDS, VERSION, WITH_FORK_STACKS, WITH_STACKS, faults},
};
use crate::model::{
    BackendFacts, Faults, Fork, ForkEnd, ForkKind, ForkMoment, ForkRegion, ForkStack, KernelFacts, Lost,
    Process, REPORT_SCHEMA, RegionFaults, Report, Stack, StackFrames, StackKind, Stacks, TracerCost,
};

/// The first bytes of each SQLite file.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Extended result code: a journal has to be rolled back, and must not be.
const READONLY_ROLLBACK: i32 = 776;

/// Reads the report of a recording. An unfinished snapshot is rolled back first.
pub fn read(path: &Path) -> Result<Report, ReadError> {
    check_kind(path)?;
    let explain = |answer| explain(path, answer);
    let open = |answer| ReadError::Open { path: path.to_owned(), answer };
    let absolute = std::path::absolute(path).map_err(open)?;
    // For the rollback alone; where the file cannot be written, SQLite opens it for reading.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(&absolute, flags).map_err(explain)?;
    db.busy_timeout(std::time::Duration::from_secs(5)).map_err(explain)?;
    db.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;")
        .map_err(explain)?;
    // One state of the file, whatever a recorder does meanwhile.
    let db = db.transaction().map_err(explain)?;
    let version = check_format(path, &db)?;
    load(&db, version).map_err(explain)?.ok_or_else(|| ReadError::Empty { path: path.to_owned() })
}

/// Whether the file is SQLite's at all.
fn check_kind(path: &Path) -> Result<(), ReadError> {
    let failed = |answer| ReadError::Open { path: path.to_owned(), answer };
    // Before it is opened: a pipe would wait for a writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(ReadError::NotAFile { path: path.to_owned() });
    }
    let mut head = Vec::new();
    File::open(path).map_err(failed)?.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(failed)?;
    match not_sqlite(&head) {
        Some(what) => Err(ReadError::NotARecording { path: path.to_owned(), what }),
        None => Ok(()),
    }
}

/// What a file with these first bytes is, if it is not SQLite's.
pub(super) fn not_sqlite(head: &[u8]) -> Option<&'static str> {
    match head {
        [] => Some("it is empty"),
        head if head.starts_with(MAGIC) => None,
        head if head.trim_ascii_start().starts_with(b"{") => Some("it looks like JSON"),
        head if MAGIC.starts_with(head) => Some("it is cut short"),
        _ => Some("it is no SQLite database"),
    }
}

/// The format, if it is a recording of one that is known here, and undamaged.
fn check_format(path: &Path, db: &Connection) -> Result<i64, ReadError> {
    let explain = |answer| explain(path, answer);
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(explain);
    if pragma("application_id")? != i64::from(APPLICATION_ID) {
        let what = "it is another program's SQLite database";
        return Err(ReadError::NotARecording { path: path.to_owned(), what });
    }
    let found = pragma("user_version")?;
    if found > VERSION {
        return Err(ReadError::Newer { path: path.to_owned(), found });
    }
    // SQLite takes the missing end of the last page for zeros.
    let bytes = (pragma("page_count")?).saturating_mul(pragma("page_size")?).cast_unsigned();
    let open = |answer| ReadError::Open { path: path.to_owned(), answer };
    if path.metadata().map_err(open)?.len() < bytes {
        return Err(ReadError::Damaged { path: path.to_owned(), what: "it is cut short".to_owned() });
    }
    let verdict = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(explain)?.as_str() {
        "ok" => Ok(found),
        what => Err(ReadError::Damaged { path: path.to_owned(), what: what.replace('\n', " ") }),
    }
}

/// What SQLite's answer means for a recording.
fn explain(path: &Path, answer: rusqlite::Error) -> ReadError {
    use rusqlite::Error as E;
    let path = path.to_owned();
    if answer.sqlite_error().is_some_and(|error| error.extended_code == READONLY_ROLLBACK) {
        return ReadError::Unfinished { path, answer };
    }
    match &answer {
        E::SqliteFailure(error, _) => match error.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => {
                ReadError::Damaged { path, what: answer.to_string() }
            }
            _ => ReadError::Sqlite { path, answer },
        },
        // A table, column or value that is not what a recorder writes.
        _ => ReadError::Damaged { path, what: answer.to_string() },
    }
}

fn load(db: &Connection, version: i64) -> rusqlite::Result<Option<Report>> {
    let mut statement = db.prepare("SELECT * FROM session")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let stacks = if version < WITH_STACKS { None } else { stacks(db)? };
    Ok(Some(Report {
        schema: REPORT_SCHEMA,
        kernel: KernelFacts {
            release: row.get("kernel_release")?,
            arch: row.get("kernel_arch")?,
            page_size: row.get("page_size")?,
        },
        backend: BackendFacts {
            name: row.get("backend")?,
            blind_to: words(row, "blind_to")?,
            unknown: words(row, "unknown")?,
        },
        lost: Lost {
            events: row.get("lost_events")?,
            processes: row.get("lost_processes")?,
            regions: row.get("lost_regions")?,
            stacks: row.get("lost_stacks")?,
            // Recordings have no counts by page.
            pages: 0,
        },
        duration_ns: row.get("duration_ns")?,
        command: words(row, "command")?,
        exit_status: row.get("exit_status")?,
        complete: row.get("complete")?,
        processes: processes(db)?,
        forks: forks(db, version, stacks.is_some())?,
        // Each process was written before it was folded.
        folded: Vec::new(),
        stacks,
        tracer: TracerCost { cpu_ns: row.get("tracer_cpu_ns")?, max_rss_kb: row.get("tracer_max_rss_kb")? },
    }))
}

fn processes(db: &Connection) -> rusqlite::Result<Vec<Process>> {
    let mut regions = db.prepare("SELECT * FROM regions WHERE process = ? ORDER BY position")?;
    let mut statement = db.prepare("SELECT * FROM processes ORDER BY id")?;
    let processes = statement.query_map([], |row| {
        let id: i64 = row.get("id")?;
        Ok(Process {
            pid: row.get("pid")?,
            ns_pid: row.get("ns_pid")?,
            ppid: row.get("ppid")?,
            comm: row.get("comm")?,
            cmdline: words(row, "cmdline")?,
            forked_from: row.get("forked_from")?,
            start_ns: row.get("start_ns")?,
            end_ns: row.get("end_ns")?,
            faults: kinds(row)?,
            wpcopy: row.get("wpcopy")?,
            raced: row.get("raced")?,
            thp_splits: row.get("thp_splits")?,
            copied_bytes: row.get("copied_bytes")?,
            anon_bytes: row.get("anon_bytes")?,
            cow_ns: None,
            regions: regions.query_map([id], region)?.collect::<Result<_, _>>()?,
            pages: None,
        })
    })?;
    processes.collect()
}

fn region(row: &Row<'_>) -> rusqlite::Result<RegionFaults> {
    Ok(RegionFaults {
        start: row.get::<_, i64>("start_address")?.cast_unsigned(),
        end: row.get::<_, i64>("end_address")?.cast_unsigned(),
        perms: row.get("perms")?,
        name: row.get("name")?,
        faults: kinds(row)?,
    })
}

fn forks(db: &Connection, version: i64, by_stack: bool) -> rusqlite::Result<Vec<Fork>> {
    let mut regions = match version {
        ..WITH_STACKS => None,
        _ => Some(db.prepare("SELECT * FROM fork_regions WHERE fork = ? ORDER BY position")?),
    };
    let mut stacks = match version {
        ..WITH_FORK_STACKS => None,
        _ => Some(db.prepare("SELECT * FROM fork_stacks WHERE fork = ? ORDER BY position")?),
    };
    let mut series = db.prepare("SELECT * FROM fork_series WHERE fork = ? ORDER BY at_ns")?;
    let mut statement = db.prepare("SELECT * FROM forks ORDER BY id")?;
    let forks = statement.query_map([], |row| {
        let id: i64 = row.get("id")?;
        let kind = match row.get::<_, String>("kind")?.as_str() {
            "fork" => ForkKind::Fork,
            "vfork" => ForkKind::Vfork,
            other => return Err(unexpected(row, "kind", other)),
        };
        Ok(Fork {
            parent: row.get("parent")?,
            child: row.get("child")?,
            at_ns: row.get("at_ns")?,
            kind,
            fork_ns: row.get("fork_ns")?,
            page_table_kb: row.get("page_table_kb")?,
            ended_by: match row.get::<_, String>("ended_by")?.as_str() {
                "exec" => ForkEnd::Exec,
                "exit" => ForkEnd::Exit,
                "running" => ForkEnd::Running,
                other => return Err(unexpected(row, "ended_by", other)),
            },
            lifetime_ns: row.get("lifetime_ns")?,
            parent_copied_bytes: row.get("parent_copied_bytes")?,
            child_copied_bytes: row.get("child_copied_bytes")?,
            extra_peak_bytes: row.get("extra_peak_bytes")?,
            extra_now_bytes: row.get("extra_now_bytes")?,
            parent_cow_ns: None,
            child_cow_ns: None,
            regions: match &mut regions {
                Some(regions) => regions.query_map([id], fork_region)?.collect::<Result<_, _>>()?,
                None => Vec::new(),
            },
            stacks: match &mut stacks {
                // Of any other fork there are no rows.
                Some(stacks) if by_stack && kind == ForkKind::Fork => {
                    stacks.query_map([id], fork_stack)?.collect::<Result<_, _>>()?
                }
                _ => None,
            },
            forecasts: Vec::new(),
            series: series.query_map([id], moment)?.collect::<Result<_, _>>()?,
        })
    })?;
    forks.collect()
}

fn fork_region(row: &Row<'_>) -> rusqlite::Result<ForkRegion> {
    Ok(ForkRegion {
        start: row.get::<_, i64>("start_address")?.cast_unsigned(),
        name: row.get("name")?,
        parent_copied_bytes: row.get("parent_copied_bytes")?,
        child_copied_bytes: row.get("child_copied_bytes")?,
    })
}

/// `None`: what stands for stacks that are not known.
fn fork_stack(row: &Row<'_>) -> rusqlite::Result<Option<ForkStack>> {
    if row.get_ref("frames")? == ValueRef::Null {
        return Ok(None);
    }
    Ok(Some(ForkStack {
        frames: words(row, "frames")?.into_iter().map(Into::into).collect(),
        parent_copied_bytes: row.get("parent_copied_bytes")?,
        child_copied_bytes: row.get("child_copied_bytes")?,
    }))
}

fn moment(row: &Row<'_>) -> rusqlite::Result<ForkMoment> {
    Ok(ForkMoment {
        at_ns: row.get("at_ns")?,
        parent_copied_bytes: row.get("parent_copied_bytes")?,
        child_copied_bytes: row.get("child_copied_bytes")?,
    })
}

/// `None` if they were not asked for.
fn stacks(db: &Connection) -> rusqlite::Result<Option<Stacks>> {
    let facts = |row: &Row<'_>| {
        Ok(StackFrames {
            frames: row.get("frames")?,
            unresolved: row.get("unresolved")?,
            pages: row.get("pages")?,
            pages_of_short_stacks: row.get("pages_of_short_stacks")?,
            pages_of_cut_stacks: row.get("pages_of_cut_stacks")?,
        })
    };
    let Some(stack_frames) = db.query_row("SELECT * FROM stack_frames", [], facts).optional()? else {
        return Ok(None);
    };
    let mut statement = db.prepare("SELECT * FROM stacks ORDER BY id")?;
    let stacks = statement.query_map([], |row| {
        let kind: String = row.get("kind")?;
        Ok(Stack {
            pid: row.get("pid")?,
            comm: row.get::<_, String>("comm")?.into(),
            kind: StackKind::from_word(&kind).ok_or_else(|| unexpected(row, "kind", &kind))?,
            count: row.get("count")?,
            frames: words(row, "frames")?.into_iter().map(Into::into).collect(),
        })
    })?;
    Ok(Some(Stacks { stacks: stacks.collect::<Result<_, _>>()?, stack_frames }))
}

fn kinds(row: &Row<'_>) -> rusqlite::Result<Faults> {
    let mut counts = [None; KINDS.len()];
    for (count, kind) in counts.iter_mut().zip(KINDS) {
        *count = row.get(kind)?;
    }
    Ok(faults(counts))
}

/// A list of words, kept as JSON.
fn words(row: &Row<'_>, column: &str) -> rusqlite::Result<Vec<String>> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| unexpected(row, column, &text))
}

fn unexpected(row: &Row<'_>, column: &str, value: &str) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or_default();
    let what = format!("{column} is {value:?}");
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, what.into())
}

//! The checkpoint in one `SQLite` file.
//!
//! `locking_mode=EXCLUSIVE`: one writer, and a second controller is refused. `journal_mode=PERSIST` with
//! `synchronous=FULL`, not WAL: a commit is durable when the journal's header is cleared and synced, the file needs no
//! shared memory beside it (home directories on NFS), and at some writes a minute the extra sync costs nothing. The
//! journal has its room on the disk from the start, so a root that is no larger than the last can be written when the disk is full:
//! a controller that dies then is followed by another. Nothing is written before the file has been recognised as ours and of a format that we know.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use super::{Store, StoreError};

/// "EGRY": tells our file from any other `SQLite` file.
const APPLICATION_ID: i32 = 0x4547_5259;
const SCHEMA: u32 = 1;
/// Room that the journal has from the start: what the commit of a root of the same size needs, with the full histories of
/// twenty applications (8 KiB each).
const JOURNAL_RESERVED: usize = 256 * 1024;
/// What the journal may keep.
const JOURNAL_BYTES: u32 = 1024 * 1024;

#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the file or creates it, mode 0600. The last controller may need a moment to die and let go of the
    /// lock.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_within(path, Duration::from_secs(5))
    }

    pub(super) fn open_within(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        create_private(path).map_err(|error| unavailable(path, &error.to_string()))?;
        let connection = Connection::open(path).map_err(|error| failed(path, &error))?;
        let mut store = Self {
            connection,
            path: path.to_owned(),
        };
        store
            .prepare(patience)
            .map_err(|error| failed(path, &error))??;
        // On a disk that is full already it stays as large as it is.
        reserve_journal(path).ok();
        Ok(store)
    }

    fn prepare(&mut self, patience: Duration) -> rusqlite::Result<Result<(), StoreError>> {
        self.connection.busy_timeout(patience)?;
        self.connection
            .pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let application_id: i32 =
            self.connection
                .pragma_query_value(None, "application_id", |row| row.get(0))?;
        let schema: u32 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: u32 =
            self.connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if (application_id, tables) != (0, 0) && application_id != APPLICATION_ID {
            let detail = "it is an SQLite file of another program".to_owned();
            return Ok(Err(StoreError::Corrupt {
                location: self.location(),
                detail,
            }));
        }
        if schema > SCHEMA {
            return Ok(Err(StoreError::Newer {
                location: self.location(),
                found: schema,
                known: SCHEMA,
            }));
        }
        self.connection
            .pragma_update(None, "journal_mode", "PERSIST")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection
            .pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
        if tables == 0 {
            self.connection.execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 CREATE TABLE blob (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
                 CREATE TABLE root (id INTEGER PRIMARY KEY CHECK (id = 1), bytes BLOB NOT NULL);
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {SCHEMA};
                 COMMIT;"
            ))?;
        }
        Ok(Ok(()))
    }

    fn run<T>(
        &mut self,
        action: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        action(&mut self.connection).map_err(|error| failed(&self.path, &error))
    }
}

impl Store for Sqlite {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let statement =
            "INSERT INTO blob (name, bytes) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        self.run(|connection| connection.execute(statement, params![name, bytes]))
            .map(drop)
    }

    fn blob(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query = "SELECT bytes FROM blob WHERE name = ?1";
        self.run(|connection| {
            connection
                .query_row(query, [name], |row| row.get(0))
                .optional()
        })
    }

    fn blob_names(&mut self) -> Result<Vec<String>, StoreError> {
        self.run(|connection| {
            let mut statement = connection.prepare("SELECT name FROM blob ORDER BY name")?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect()
        })
    }

    fn remove_blob(&mut self, name: &str) -> Result<(), StoreError> {
        self.run(|connection| connection.execute("DELETE FROM blob WHERE name = ?1", [name]))
            .map(drop)
    }

    fn root(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|connection| {
            connection
                .query_row("SELECT bytes FROM root WHERE id = 1", [], |row| row.get(0))
                .optional()
        })
    }

    fn restore(&mut self) -> Result<bool, StoreError> {
        if self.path.exists() {
            return Ok(false);
        }
        *self = Self::open(&self.path)?;
        Ok(true)
    }

    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let statement = "INSERT INTO root (id, bytes) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes";
        self.run(|connection| connection.execute(statement, [bytes]))
            .map(drop)
    }
}

/// Takes the room of the journal now. A journal that begins with zeros is none to `SQLite`, which writes over it.
fn reserve_journal(path: &Path) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut name = path.as_os_str().to_owned();
    name.push("-journal");
    let mut journal = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(name)?;
    let there = journal.metadata()?.len() as usize;
    journal.write_all(&vec![0; JOURNAL_RESERVED.saturating_sub(there)])
}

fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn unavailable(path: &Path, detail: &str) -> StoreError {
    StoreError::Unavailable {
        location: path.display().to_string(),
        detail: detail.to_owned(),
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Corrupt {
            location: path.display().to_string(),
            detail: error.to_string(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            unavailable(path, "another controller has it open")
        }
        _ => unavailable(path, &error.to_string()),
    }
}

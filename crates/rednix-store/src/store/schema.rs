//! The database's tables, as C++ Nix 2.34 creates and expects them: schema 10 and the tables for realisations.
//! Decides whether a database may be used; reads no rows of it otherwise.

use rusqlite::{Connection, OptionalExtension};

/// Contents of `db/schema`.
pub const SCHEMA: u32 = 10;

/// The migration that brings the tables for content-addressed derivations.
pub const REALISATIONS_MIGRATION: &str = "20220326-ca-derivations";

/// Core tables. Column names, types and constraints are the format; the peer reads and writes the same file.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS ValidPaths (
    id integer primary key autoincrement not null, path text unique not null, hash text not null,
    registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
CREATE TABLE IF NOT EXISTS Refs (
    referrer integer not null, reference integer not null, primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict);
CREATE INDEX IF NOT EXISTS IndexReferrer ON Refs(referrer);
CREATE INDEX IF NOT EXISTS IndexReference ON Refs(reference);
CREATE TRIGGER IF NOT EXISTS DeleteSelfRefs BEFORE DELETE ON ValidPaths
    BEGIN DELETE FROM Refs WHERE referrer = old.id AND reference = old.id; END;
CREATE TABLE IF NOT EXISTS DerivationOutputs (
    drv integer not null, id text not null, path text not null, primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade);
CREATE INDEX IF NOT EXISTS IndexDerivationOutputs ON DerivationOutputs(path);
CREATE TABLE IF NOT EXISTS SchemaMigrations (migration text primary key not null);
";

/// Realisations: what a floating output of a derivation (by its modulo hash) turned out to be.
const REALISATION_TABLES: &str = "
CREATE TABLE IF NOT EXISTS Realisations (
    id integer primary key autoincrement not null, drvPath text not null, outputName text not null,
    outputPath integer not null, signatures text,
    foreign key (outputPath) references ValidPaths(id) on delete cascade);
CREATE INDEX IF NOT EXISTS IndexRealisations ON Realisations(drvPath, outputName);
CREATE TRIGGER IF NOT EXISTS DeleteSelfRefsViaRealisations BEFORE DELETE ON ValidPaths
    BEGIN DELETE FROM RealisationsRefs WHERE realisationReference IN
        (SELECT id FROM Realisations WHERE outputPath = old.id); END;
CREATE TABLE IF NOT EXISTS RealisationsRefs (
    referrer integer not null, realisationReference integer,
    foreign key (referrer) references Realisations(id) on delete cascade,
    foreign key (realisationReference) references Realisations(id) on delete restrict);
CREATE INDEX IF NOT EXISTS IndexRealisationsRefsRealisationReference ON RealisationsRefs(realisationReference);
CREATE INDEX IF NOT EXISTS IndexRealisationsRefs ON RealisationsRefs(referrer);
CREATE INDEX IF NOT EXISTS IndexRealisationsRefsOnOutputPath ON Realisations(outputPath);
";

/// Creates all tables of an empty database, in one transaction.
pub fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    add_realisations(&transaction)?;
    transaction.commit()
}

/// Adds the realisation tables where a peer without that feature made the database.
pub fn add_realisations(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.execute_batch(REALISATION_TABLES)?;
    connection
        .execute("INSERT OR IGNORE INTO SchemaMigrations VALUES (?1)", [REALISATIONS_MIGRATION])
        .map(drop)
}

/// What a database's list of migrations means for us.
#[derive(Debug, PartialEq, Eq)]
pub enum Migrations {
    Current,
    WithoutRealisations,
    /// Names a migration this version does not know.
    Newer(String),
}

pub fn migrations(connection: &Connection) -> rusqlite::Result<Migrations> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'SchemaMigrations'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Migrations::WithoutRealisations);
    }
    let mut statement = connection.prepare("SELECT migration FROM SchemaMigrations")?;
    let mut rows = statement.query([])?;
    let mut result = Migrations::WithoutRealisations;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if name == REALISATIONS_MIGRATION {
            result = Migrations::Current;
        } else {
            return Ok(Migrations::Newer(name));
        }
    }
    Ok(result)
}

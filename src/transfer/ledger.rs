//! The ledger: which unit of work is committed in the target, with its digest.
//!
//! It stands in schema `pgmove` of the target, because a unit's rows (or DDL) and its ledger row commit in one
//! transaction. The unit's name is the primary key, so a commit whose answer was lost cannot happen twice: the
//! second attempt fails on the key. Units of unlogged tables are in an unlogged ledger; a crash that empties
//! such a table empties its ledger rows too.

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::pg::quote_literal;
use crate::transfer::digest::Digest;

/// Which of the two ledgers a unit is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a crash of the server.
    Logged,
    /// Is emptied by a crash of the server, as the rows are.
    Unlogged,
}

/// Creates the ledger of `run`. Does nothing if it is there already.
pub async fn create(client: &Client, run: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(include_str!("../../sql/ledger/create.sql")).await?;
    client.execute(include_str!("../../sql/ledger/insert_run.sql"), &[&run]).await?;
    Ok(())
}

/// The run whose ledger is in the target; `None` if there is no ledger.
pub async fn owner(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    let exists: bool =
        client.query_one(include_str!("../../sql/ledger/exists.sql"), &[]).await?.get("exists");
    if !exists {
        return Ok(None);
    }
    Ok(client.query_opt(include_str!("../../sql/ledger/run.sql"), &[]).await?.map(|row| row.get("id")))
}

/// Every committed unit, with its digest where it has one.
pub async fn read(client: &Client) -> Result<HashMap<String, Option<Digest>>, tokio_postgres::Error> {
    let rows = client.query(include_str!("../../sql/ledger/read.sql"), &[]).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (count, checksum): (Option<i64>, Option<String>) =
                (row.get("row_count"), row.get("checksum"));
            let digest = count
                .zip(checksum)
                .and_then(|(count, checksum)| Digest::parse(u64::try_from(count).ok()?, &checksum));
            (row.get("item"), digest)
        })
        .collect())
}

/// The statement that records a unit; to be sent in the unit's own transaction or message.
pub fn record(item: &str, digest: Option<Digest>, durability: Durability) -> String {
    let table = match durability {
        Durability::Logged => "ledger",
        Durability::Unlogged => "ledger_unlogged",
    };
    let (rows, checksum) = digest.map_or_else(
        || ("NULL".to_owned(), "NULL".to_owned()),
        |digest| (digest.rows.to_string(), quote_literal(&digest.checksum())),
    );
    format!(
        "INSERT INTO pgmove.{table} (item, row_count, checksum) VALUES ({}, {rows}, {checksum})",
        quote_literal(item)
    )
}

/// The statement that forgets units, in both ledgers.
pub fn forget(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote_literal(item)).collect();
    let items = items.join(", ");
    format!(
        "DELETE FROM pgmove.ledger WHERE item IN ({items}); DELETE FROM pgmove.ledger_unlogged WHERE item IN ({items})"
    )
}

/// Makes every unit durable that was committed before.
pub async fn seal(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("SET synchronous_commit TO on").await?;
    client.batch_execute(include_str!("../../sql/ledger/seal.sql")).await
}

/// Whether the server has what [`seal`] has written, and with it everything before.
pub async fn is_sealed(client: &Client) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_one(include_str!("../../sql/ledger/is_sealed.sql"), &[]).await?.get("is_sealed"))
}

/// Removes the ledger.
pub async fn drop(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(include_str!("../../sql/ledger/drop.sql")).await
}

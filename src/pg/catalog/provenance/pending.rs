//! Records that are written when the transaction commits.
//!
//! Until then the transaction's claim tells others which model it uses. Written earlier, a record would make other
//! transactions that embed the same column wait for this one to end.

use std::cell::RefCell;

use super::{EMBEDDING_COLUMN, Provenance, partitions};
use crate::pg::catalog::write;
use crate::pg::claim::Claim;
use crate::pg::error::Result;
use crate::pg::open::OpenRelation;
use crate::pg::regclass::RegClass;
use crate::pg::spi::arg;
use crate::pg::spi::operators::{EQ, NE};
use crate::pg::{roles, snapshot};

/// A record that has to be written.
#[derive(Clone, Debug)]
pub(super) struct PendingRecord {
    pub relation: RegClass,
    pub column: String,
    pub provenance: Provenance,
    pub claim: Claim,
}

thread_local! {
    static PENDING: RefCell<Vec<PendingRecord>> = const { RefCell::new(Vec::new()) };
}

/// The pending record of a column. One whose savepoint was rolled back does not count: its claim is gone.
pub(super) fn find(relation: RegClass, column: &str) -> Option<Provenance> {
    PENDING.with_borrow_mut(|all| {
        all.retain(|record| record.claim.is_held());
        let found = all.iter().find(|record| record.relation == relation && record.column == column);
        found.map(|record| record.provenance.clone())
    })
}

/// Adds a record, and replaces an earlier one of the same column.
pub(super) fn add(record: PendingRecord) {
    PENDING.with_borrow_mut(|all| {
        all.retain(|other| other.relation != record.relation || other.column != record.column);
        all.push(record);
    });
}

/// Writes the pending records. Called just before the transaction commits.
pub fn write_pending() -> Result<()> {
    let all = PENDING.take();
    for record in all.iter().filter(|record| record.claim.is_held()) {
        // The table or the extension may have been dropped in the meantime.
        if record.relation.exists() {
            snapshot::with_latest(|| match OpenRelation::own(EMBEDDING_COLUMN) {
                Some(table) => roles::as_role(table.owner(), || record.write()),
                None => Ok(()),
            })?;
        }
    }
    Ok(())
}

/// Forgets the pending records. Called when the transaction has ended.
pub fn forget_pending() {
    PENDING.take();
}

impl PendingRecord {
    fn write(&self) -> Result<()> {
        let PendingRecord { relation, column, provenance, .. } = self;
        // Partitions with a record of another model no longer have such embeddings.
        let update_partitions = format!(
            "UPDATE susx.embedding_column SET model = $3, model_sha256 = $4 \
             WHERE embedding_column {EQ} $2::pg_catalog.name AND relation {EQ} ANY ({}) \
             AND (model_sha256 {NE} $4 OR (model_sha256 IS NULL OR $4 IS NULL) AND model {NE} $3)",
            partitions()
        );
        let upsert = format!(
            "INSERT INTO susx.embedding_column AS e (relation, embedding_column, model, model_sha256) \
             VALUES ($1, $2::pg_catalog.name, $3, $4) ON CONFLICT (relation, embedding_column) \
             DO UPDATE SET model = excluded.model, model_sha256 = excluded.model_sha256 \
             WHERE e.model_sha256 {NE} excluded.model_sha256 \
             OR (e.model_sha256 IS NULL OR excluded.model_sha256 IS NULL) AND e.model {NE} excluded.model"
        );
        for sql in [update_partitions, upsert] {
            let (column, model) = (column.clone(), provenance.model.clone());
            write(&sql, &[arg(*relation), arg(column), arg(model), arg(provenance.sha256.clone())])?;
        }
        Ok(())
    }
}

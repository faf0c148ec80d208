//! Which model may embed a column from now on.

use std::ffi::CString;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use susx_server::protocol::Model;

use super::pending::{self, PendingRecord};
use super::{OtherModel, Provenance, shards};
use crate::pg::catalog::image_table::ImageTable;
use crate::pg::claim::Claim;
use crate::pg::embedding_model::{EmbeddingModel, EmbeddingOwner};
use crate::pg::error::{Error, Result};
use crate::pg::regclass::RegClass;
use crate::pg::spi::{arg, first};
use crate::pg::{snapshot, wait};

/// How long to wait for another transaction that has claimed the column for another model.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(1);
/// How often to look whether that transaction still holds its claim.
const CLAIM_INTERVAL: Duration = Duration::from_millis(10);

impl ImageTable {
    /// Claims the column for a model. The model is recorded if the column has no record, or no longer has embeddings;
    /// an error if it has embeddings of another model.
    pub fn claim_for(&self, model: &Model) -> Result<EmbeddingModel> {
        let owner = EmbeddingOwner::Column { relation: self.table.clone(), column: self.column.clone() };
        let sha256 = model.sha256.map(|sha256| sha256.to_vec());
        let model = EmbeddingModel { owner, name: model.name.clone(), sha256 };
        self.claim_again_for(&model)?;
        Ok(model)
    }

    /// Like [`claim_for`](Self::claim_for), for every later transaction that writes embeddings of the same call. Waits
    /// up to [`CLAIM_TIMEOUT`] for another transaction with a claim for another model: most such transactions fail
    /// soon, because they find the record of this column.
    pub fn claim_again_for(&self, model: &EmbeddingModel) -> Result<()> {
        let used = Provenance { model: model.name.clone(), sha256: model.sha256.clone() };
        let claim = used.claim(self.relation, &self.column)?;
        let deadline = Instant::now() + CLAIM_TIMEOUT;
        while !self.try_claim(&used, claim)? {
            claim.release();
            if Instant::now() >= deadline {
                return Err(self.contested(&used).into());
            }
            wait::for_time(CLAIM_INTERVAL);
        }
        Ok(())
    }

    /// Claims the column for a model, and has the model recorded at commit if need be. False if another transaction
    /// has claimed the column for another model.
    fn try_claim(&self, used: &Provenance, claim: Claim) -> Result<bool> {
        let (relation, column) = (&self.relation, &self.column);
        // Claimed before any record is looked up, so that transactions which look later find the claim.
        let is_uncontested = claim.take();
        let (own, of_others) = match pending::find(*relation, column) {
            Some(pending) => (Some(pending), Vec::new()),
            None => snapshot::with_latest(|| {
                let own = Provenance::of(*relation, column)?;
                let mut of_others = Provenance::of_partitions(*relation, column)?;
                if own.is_none() {
                    of_others.extend(shards::siblings(*relation, column)?);
                }
                Ok((own, of_others))
            })?,
        };
        let other = own.iter().chain(&of_others).find(|recorded| !recorded.is_comparable_with(used));
        if let Some(other) = other {
            // A caller who may not see all rows cannot tell whether any has an embedding.
            if relation.has_row_security() || snapshot::with_latest(|| self.has_embeddings())? {
                return Err(self.other_model(other, used).into());
            }
        }
        if is_uncontested && (own.is_none() || other.is_some()) {
            let (column, provenance) = (column.clone(), used.clone());
            pending::add(PendingRecord { relation: *relation, column, provenance, claim });
        }
        Ok(is_uncontested)
    }

    fn has_embeddings(&self) -> Result<bool> {
        let (table, embedding) = (&self.table, &self.embedding);
        let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE {embedding} IS NOT NULL)");
        Ok(first(&sql, &[])?.unwrap_or(false))
    }

    fn contested(&self, used: &Provenance) -> OtherModel {
        OtherModel {
            message: format!(
                "column \"{}\" of relation \"{}\" is being filled with embeddings of another model than \"{}\" by \
                 another transaction",
                self.column, self.name, used.model
            ),
            hint: "Wait until that transaction has ended, or name its model.".to_owned(),
        }
    }

    fn other_model(&self, recorded: &Provenance, used: &Provenance) -> OtherModel {
        let (name, column, table, embedding) = (&self.name, &self.column, &self.table, &self.embedding);
        let (old, new) = (&recorded.model, &used.model);
        let start = format!("column \"{column}\" of relation \"{name}\" has embeddings of");
        let reembed = match self.relation.has_row_security() {
            false => format!("To embed all of it again: UPDATE {table} SET {embedding} = NULL, then repeat the call."),
            true => {
                "Row-level security applies to you. Only a role that sees all rows can check whether such embeddings \
                 remain, and embed these rows again."
                    .to_owned()
            }
        };
        match old == new {
            true => OtherModel { message: format!("{start} other files of model \"{new}\""), hint: reembed },
            false => OtherModel {
                message: format!("{start} model \"{old}\", not \"{new}\""),
                hint: format!("Name the old model. {reembed}"),
            },
        }
    }
}

impl Provenance {
    /// A claim for this model to a column; of the whole partitioned table if the relation is a partition.
    fn claim(&self, relation: RegClass, column: &str) -> Result<Claim> {
        let name = CString::new(column).map_err(Error::internal)?;
        let mut root = relation;
        // SAFETY: a look-up for any OID.
        if unsafe { pg_sys::get_rel_relispartition(relation.0) } {
            let sql = "SELECT pg_catalog.pg_partition_root($1)::pg_catalog.oid";
            root = first(sql, &[arg(relation)])?.map_or(relation, RegClass);
        }
        // SAFETY: a look-up for any OID and a C string; 0 for a column that does not exist.
        let number = unsafe { pg_sys::get_attnum(root.0, name.as_ptr()) };
        let model = self.sha256.as_deref().unwrap_or(self.model.as_bytes());
        Ok(Claim::new(root, number, model))
    }
}

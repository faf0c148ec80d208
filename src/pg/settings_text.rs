//! The settings in a classifier's own table, read without a query.
//!
//! A query would be subject to the table's row-level security, and to the planner of an extension such as Citus, which
//! does not let functions that it runs on a shard query other tables. Settings apply to all rows, so everyone who may
//! read the table sees them.

use std::ffi::CStr;
use std::num::NonZeroUsize;

use pgrx::datum::UnboxDatum;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::{AllocatedByPostgres, FromDatum, IntoDatum, PgTupleDesc, pg_sys};

use super::encoding::UncheckedText;
use super::error::Result;
use super::jsonb::Jsonb;
use super::open::OpenRelation;
use super::regclass::RegClass;
use super::snapshot::{self, SnapshotId};

/// The id of the row that holds the settings.
pub const SETTINGS_ID: i64 = 0;
/// Its kind.
pub const SETTINGS_KIND: &str = "settings";

/// The columns that are read, with their types.
const ID: (&CStr, pg_sys::Oid) = (c"id", pg_sys::INT8OID);
const KIND: (&CStr, pg_sys::Oid) = (c"kind", pg_sys::TEXTOID);
const SETTINGS: (&CStr, pg_sys::Oid) = (c"settings", pg_sys::JSONBOID);

/// The settings that the running statement sees, as JSON. `None` if the table has none, or is not one that holds any: its owner
/// may have changed it, or it is a view.
pub fn read(classifier: RegClass) -> Result<Option<String>> {
    match SnapshotId::active() {
        Some(_) => read_active(classifier),
        None => snapshot::with_latest(|| read_active(classifier)),
    }
}

/// The settings after everything that has been committed and that this transaction has done. For functions that write.
pub fn read_latest(classifier: RegClass) -> Result<Option<String>> {
    // SAFETY: in a transaction and outside of a parallel query. Shows what the running command has written.
    unsafe { pg_sys::CommandCounterIncrement() };
    snapshot::with_latest(|| read_active(classifier))
}

fn read_active(classifier: RegClass) -> Result<Option<String>> {
    classifier.lock_for_reading();
    let table = OpenRelation::locked(classifier)?;
    // SAFETY: the table is open, and its descriptor valid. The active snapshot stays on the stack during the call.
    unsafe {
        let class = &*(*table.0).rd_rel;
        if class.relkind as u8 != pg_sys::RELKIND_RELATION || class.relam != pg_sys::HEAP_TABLE_AM_OID {
            return Ok(None);
        }
        let (Some(id), Some(kind), Some(settings)) =
            (number(&table, ID), number(&table, KIND), number(&table, SETTINGS))
        else {
            return Ok(None);
        };
        let Some(row) = row(&table, id) else { return Ok(None) };
        let kind: Option<UncheckedText> = value(&row, kind);
        if kind.as_ref().map(UncheckedText::read).transpose()? != Some(SETTINGS_KIND) {
            return Ok(None);
        }
        value::<Jsonb>(&row, settings).map(Jsonb::text).transpose()
    }
}

/// The value of a column, whose type is known to be that of `T`; `None` for NULL.
fn value<'a, T: FromDatum + IntoDatum + UnboxDatum<As<'a> = T> + 'a>(
    row: &'a PgHeapTuple<'static, AllocatedByPostgres>,
    column: i16,
) -> Option<T> {
    let column = usize::try_from(column).ok().and_then(NonZeroUsize::new)?;
    row.get_by_index(column).ok().flatten()
}

/// The number of a column that is stored in the rows.
///
/// # Safety
///
/// The relation must be open.
unsafe fn number(table: &OpenRelation, (name, type_oid): (&CStr, pg_sys::Oid)) -> Option<i16> {
    // SAFETY: as above. A name ends with a NUL.
    unsafe {
        let columns = PgTupleDesc::from_pg_unchecked((*table.0).rd_att);
        let is_wanted = |column: &&pg_sys::FormData_pg_attribute| {
            !column.attisdropped
                && column.attgenerated == 0
                && column.atttypid == type_oid
                && CStr::from_ptr(column.attname.data.as_ptr()) == name
        };
        columns.iter().find(is_wanted).map(|column| column.attnum)
    }
}

/// A copy of the row with the id of the settings.
///
/// # Safety
///
/// The relation must be an open table with the heap access method, `id` the number of its column of type bigint, and a
/// snapshot active.
unsafe fn row(table: &OpenRelation, id: i16) -> Option<PgHeapTuple<'static, AllocatedByPostgres>> {
    // SAFETY: as above. The scan pins the row, which is copied before the scan ends.
    unsafe {
        let index = primary_key(table, id);
        let mut key = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        pg_sys::ScanKeyInit(&mut key, id, equal, pg_sys::F_INT8EQ.into(), SETTINGS_ID.into());
        let snapshot = pg_sys::GetActiveSnapshot();
        let has_index = index != pg_sys::Oid::INVALID;
        let scan = pg_sys::systable_beginscan(table.0, index, has_index, snapshot, 1, &mut key);
        let found = pg_sys::systable_getnext(scan);
        let copy = (!found.is_null()).then(|| pg_sys::heap_copytuple(found));
        pg_sys::systable_endscan(scan);
        copy.map(|row| PgHeapTuple::from_heap_tuple(PgTupleDesc::from_pg_copy((*table.0).rd_att), row))
    }
}

/// The index of the primary key, if that is this column alone.
///
/// # Safety
///
/// The relation must be open.
unsafe fn primary_key(table: &OpenRelation, column: i16) -> pg_sys::Oid {
    // SAFETY: as above. The first call fills in the OID of the primary key. An index is open while its row is read.
    unsafe {
        pg_sys::list_free(pg_sys::RelationGetIndexList(table.0));
        let oid = (*table.0).rd_pkindex;
        if oid == pg_sys::Oid::INVALID {
            return oid;
        }
        let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let form = &*(*index).rd_index;
        let is_this = form.indisvalid && form.indnkeyatts == 1 && form.indkey.values.as_slice(1) == [column];
        pg_sys::index_close(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        if is_this { oid } else { pg_sys::Oid::INVALID }
    }
}

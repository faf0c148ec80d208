//! PostgreSQL's `regclass`: a relation identified by its OID.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys};

use super::encoding;
use super::error::Result;
use super::relation_error::RelationError;

/// OID of a relation. SQL shows it as the relation's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegClass(pub pg_sys::Oid);

impl_sql_translatable!(RegClass, "regclass");

impl FromDatum for RegClass {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        typoid: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: regclass is represented as an OID.
        unsafe { pg_sys::Oid::from_polymorphic_datum(datum, is_null, typoid) }.map(RegClass)
    }
}

impl IntoDatum for RegClass {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.0.into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::REGCLASSOID
    }
}

// SAFETY: reads the argument as the type that SQL declares.
unsafe impl<'fcx> ArgAbi<'fcx> for RegClass {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; PostgreSQL passes no NULL to a parameter that is not an Option.
        unsafe { RegClass(pg_sys::Oid::unbox_arg_unchecked(arg)) }
    }
}

// SAFETY: returns an OID, the representation of regclass.
unsafe impl BoxRet for RegClass {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

impl RegClass {
    /// Schema and name.
    pub(super) fn names(self) -> Result<(String, String)> {
        // SAFETY: for any OID, both return NULL or a palloc'd C string.
        let (schema, name) = unsafe {
            let name = pg_sys::get_rel_name(self.0);
            let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(self.0));
            if name.is_null() || schema.is_null() {
                return Err(RelationError::NoRelation(self.0.to_u32()).into());
            }
            (std::ffi::CStr::from_ptr(schema), std::ffi::CStr::from_ptr(name))
        };
        Ok((encoding::text(schema.to_bytes())?.to_owned(), encoding::text(name.to_bytes())?.to_owned()))
    }

    /// Whether there is a relation with this OID.
    pub fn exists(self) -> bool {
        // SAFETY: a look-up that accepts any OID.
        unsafe { !pg_sys::get_rel_name(self.0).is_null() }
    }

    /// The name without its schema, for messages.
    pub fn name(self) -> Result<String> {
        Ok(self.names()?.1)
    }

    /// The name with its schema, quoted for SQL text.
    pub fn quoted(self) -> Result<String> {
        let (schema, name) = self.names()?;
        Ok(pgrx::spi::quote_qualified_identifier(schema, name))
    }

    /// Like [`open_for_reading`](Self::open_for_reading); also an error if the caller may not update all rows of the
    /// relation, which is what changing a classifier's settings requires.
    pub fn open_for_updating(self) -> Result<()> {
        self.open_for_reading()?;
        self.permission(self.has_privilege(pg_sys::ACL_UPDATE))?;
        self.check_row_security()
    }

    /// Whether this is an ordinary table of a user that outlives the session. It must be locked.
    pub fn is_permanent_table(self) -> bool {
        // SAFETY: the relation is locked, so it exists.
        unsafe {
            pg_sys::get_rel_relkind(self.0) as u8 == pg_sys::RELKIND_RELATION
                && pg_sys::get_rel_persistence(self.0) as u8 != pg_sys::RELPERSISTENCE_TEMP
                && !pg_sys::IsCatalogRelationOid(self.0)
        }
    }

    /// Whether it can have indexes. It must be locked.
    pub fn can_have_indexes(self) -> bool {
        // SAFETY: the relation is locked, so it exists.
        let kind = unsafe { pg_sys::get_rel_relkind(self.0) } as u8;
        let kinds = [pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE, pg_sys::RELKIND_MATVIEW];
        kinds.contains(&kind)
    }

    /// An error if row-level security restricts which rows the caller sees.
    pub fn check_row_security(self) -> Result<()> {
        if self.has_row_security() { Err(RelationError::RowSecurity(self.name()?).into()) } else { Ok(()) }
    }

    /// Whether row-level security restricts which rows the caller sees. It does not restrict roles with BYPASSRLS, nor
    /// the relation's owner unless it is forced.
    pub fn has_row_security(self) -> bool {
        // SAFETY: a look-up that accepts any OID.
        let found = unsafe { pg_sys::check_enable_rls(self.0, pg_sys::Oid::INVALID, true) };
        found == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }

    /// Locks the relation for reading until the end of the transaction, and processes changes that other sessions have
    /// committed. An error if it does not exist or the caller may not read it.
    pub fn open_for_reading(self) -> Result<()> {
        self.open()?;
        self.permission(self.has_privilege(pg_sys::ACL_SELECT))
    }

    /// Like [`open_for_reading`](Self::open_for_reading), for a caller who may read some of the columns.
    pub fn open_for_reading_columns(self) -> Result<()> {
        self.open()?;
        let (select, any) = (pg_sys::ACL_SELECT as pg_sys::AclMode, pg_sys::AclMaskHow::ACLMASK_ANY);
        // SAFETY: the relation is locked, so it exists.
        let columns = unsafe { pg_sys::pg_attribute_aclcheck_all(self.0, pg_sys::GetUserId(), select, any) };
        self.permission(self.has_privilege(pg_sys::ACL_SELECT) || columns == pg_sys::AclResult::ACLCHECK_OK)
    }

    /// An error that names those of the columns that the caller may not read. They are given by name and number; the
    /// relation is locked.
    pub fn check_columns(self, columns: &[(String, i32)]) -> Result<()> {
        if self.has_privilege(pg_sys::ACL_SELECT) {
            return Ok(());
        }
        let select = pg_sys::ACL_SELECT as pg_sys::AclMode;
        let is_denied = |number: i32| {
            // SAFETY: a look-up for any number of a column.
            let found =
                unsafe { pg_sys::pg_attribute_aclcheck(self.0, number as i16, pg_sys::GetUserId(), select) };
            found != pg_sys::AclResult::ACLCHECK_OK
        };
        let denied: Vec<&str> =
            columns.iter().filter(|(_, number)| is_denied(*number)).map(|(name, _)| &**name).collect();
        if denied.is_empty() {
            return Ok(());
        }
        Err(RelationError::Columns { name: self.name()?, table: self.quoted()?, columns: denied.join(", ") }
            .into())
    }

    fn open(self) -> Result<()> {
        // SAFETY: any OID may be locked. The transaction owns the lock.
        unsafe {
            pg_sys::LockRelationOid(self.0, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            // Locking does this only if the lock was not held before.
            pg_sys::AcceptInvalidationMessages();
        }
        self.names()?;
        // SAFETY: the relation is locked, so it exists.
        if unsafe { pg_sys::isOtherTempNamespace(pg_sys::get_rel_namespace(self.0)) } {
            return Err(RelationError::OtherTemporary.into());
        }
        Ok(())
    }

    /// Locks the relation for reading until the end of the transaction. It may have been dropped in the meantime.
    pub fn lock_for_reading(self) {
        // SAFETY: any OID may be locked. The transaction owns the lock.
        unsafe { pg_sys::LockRelationOid(self.0, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    }

    /// Locks the relation for writing until the end of the transaction.
    pub fn lock_for_writing(self) {
        // SAFETY: any OID may be locked. The transaction owns the lock.
        unsafe { pg_sys::LockRelationOid(self.0, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
    }

    /// Like [`open_for_reading`](Self::open_for_reading); also an error if the caller may insert into none of the
    /// columns. The INSERT would find that out only after a long computation.
    pub fn open_for_inserting(self) -> Result<()> {
        self.open_for_reading()?;
        let (insert, any) = (pg_sys::ACL_INSERT as pg_sys::AclMode, pg_sys::AclMaskHow::ACLMASK_ANY);
        // SAFETY: the relation is locked, so it exists.
        let columns = unsafe { pg_sys::pg_attribute_aclcheck_all(self.0, pg_sys::GetUserId(), insert, any) };
        self.permission(self.has_privilege(pg_sys::ACL_INSERT) || columns == pg_sys::AclResult::ACLCHECK_OK)
    }

    /// Like [`open_for_inserting`](Self::open_for_inserting); also an error if the caller may not delete rows.
    pub fn open_for_replacing(self) -> Result<()> {
        self.open_for_inserting()?;
        self.permission(self.has_privilege(pg_sys::ACL_DELETE))
    }

    /// Whether the caller has a privilege on the whole relation, which must be locked.
    fn has_privilege(self, privilege: u32) -> bool {
        // SAFETY: the relation is locked, so it exists.
        let found =
            unsafe { pg_sys::pg_class_aclcheck(self.0, pg_sys::GetUserId(), privilege as pg_sys::AclMode) };
        found == pg_sys::AclResult::ACLCHECK_OK
    }

    /// An error unless `is_allowed`.
    fn permission(self, is_allowed: bool) -> Result<()> {
        if is_allowed { Ok(()) } else { Err(RelationError::Permission(self.name()?).into()) }
    }
}

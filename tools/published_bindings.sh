#!/bin/sh
# A RUSTC_WRAPPER, used with DOCS_RS=1 for a PostgreSQL whose headers are missing: compiles pgrx-pg-sys with the bindings
# that it ships for docs.rs. They suffice to check types, but not to link.
case " $* " in
*" --crate-name pgrx_pg_sys "*) RUSTC_BOOTSTRAP=1 exec "$@" --cfg docsrs ;;
*) exec "$@" ;;
esac

#!/bin/sh
# A RUSTC_WRAPPER, with DOCS_RS=1: compiles pgrx-pg-sys with the bindings that it ships for docs.rs, for a PostgreSQL
# whose headers are not here. Enough to check types, not to link.
case " $* " in
*" --crate-name pgrx_pg_sys "*) RUSTC_BOOTSTRAP=1 exec "$@" --cfg docsrs ;;
*) exec "$@" ;;
esac

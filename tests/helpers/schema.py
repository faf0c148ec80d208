"""Everything that an extension has put into a database, as text, to compare two databases line by line."""

from __future__ import annotations

import difflib

from helpers.session import Session

# Each query gives lines "object: property: value". Grants are sorted, because the order of statements means nothing.
_ACL = """coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest({0}) a), 'default')"""

_LINES = [
    """
    SELECT format('extension: %s %s, relocatable %s, schema %s, comment %s', extname, extversion, extrelocatable,
                  extnamespace::regnamespace, obj_description(oid, 'pg_extension'))
    FROM pg_extension e WHERE oid = %(extension)s""",
    """
    SELECT format('dumped: %s %s', c.oid::regclass, c.condition)
    FROM pg_extension e, unnest(extconfig, extcondition) c (oid, condition) WHERE e.oid = %(extension)s""",
    """
    SELECT format('member: %s', pg_describe_object(classid, objid, objsubid))
    FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid = %(extension)s AND deptype = 'e'""",
    """
    SELECT format('depends: %s on %s (%s)', pg_describe_object(d.classid, d.objid, d.objsubid),
                  pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype)
    FROM pg_depend d JOIN pg_depend m ON m.classid = d.classid AND m.objid = d.objid
    WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = %(extension)s AND m.deptype = 'e'""",
    f"""
    SELECT format('function: %s: %s; strict %s, cost %s, rows %s, leakproof %s, owner %s, acl %s, comment %s',
                  p.oid::regprocedure, regexp_replace(pg_get_functiondef(p.oid), '\\s+', ' ', 'g'), proisstrict, procost,
                  prorows, proleakproof, proowner::regrole, {_ACL.format('proacl')}, obj_description(p.oid, 'pg_proc'))
    FROM pg_proc p WHERE p.oid = ANY (%(functions)s)""",
    f"""
    SELECT format('relation: %s: kind %s, persistence %s, rls %s %s, options %s, owner %s, acl %s, comment %s',
                  c.oid::regclass, relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions,
                  relowner::regrole, {_ACL.format('relacl')}, obj_description(c.oid, 'pg_class'))
    FROM pg_class c WHERE c.oid = ANY (%(relations)s)""",
    f"""
    SELECT format('column: %s %s %s: %s, not null %s, default %s, storage %s %s, statistics %s, acl %s, comment %s',
                  attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull,
                  (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum),
                  attstorage, attcompression, attstattarget, {_ACL.format('attacl')}, col_description(attrelid, attnum))
    FROM pg_attribute WHERE attrelid = ANY (%(relations)s) AND attnum > 0""",
    """
    SELECT format('constraint: %s %s: %s, validated %s', conrelid::regclass, conname, pg_get_constraintdef(oid),
                  convalidated)
    FROM pg_constraint WHERE conrelid = ANY (%(relations)s)""",
    """
    SELECT format('index: %s', pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid = ANY (%(relations)s)""",
    """
    SELECT format('policy: %s %s: %s, %s, roles %s, using %s, check %s', polrelid::regclass, polname, polcmd,
                  polpermissive, polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM pg_policy WHERE polrelid = ANY (%(relations)s)""",
    """
    SELECT format('trigger: %s, enabled %s', pg_get_triggerdef(oid), tgenabled)
    FROM pg_trigger WHERE tgrelid = ANY (%(relations)s) AND NOT tgisinternal""",
    """
    SELECT format('rule: %s', pg_get_ruledef(oid)) FROM pg_rewrite WHERE ev_class = ANY (%(relations)s)""",
    """
    SELECT format('event trigger: %s: %s, enabled %s, tags %s, %s, owner %s, comment %s', evtname, evtevent, evtenabled,
                  evttags, evtfoid::regprocedure, evtowner::regrole, obj_description(e.oid, 'pg_event_trigger'))
    FROM pg_event_trigger e JOIN pg_depend d ON d.objid = e.oid AND d.classid = 'pg_event_trigger'::regclass
    WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = %(extension)s AND d.deptype = 'e'""",
    f"""
    SELECT format('schema: %s, owner %s, acl %s', nspname, nspowner::regrole, {_ACL.format('nspacl')})
    FROM pg_namespace WHERE oid = (SELECT extnamespace FROM pg_extension WHERE oid = %(extension)s)""",
    f"""
    SELECT format('initial privileges: %s: %s', pg_describe_object(classoid, objoid, objsubid),
                  {_ACL.format('initprivs')})
    FROM pg_init_privs WHERE privtype = 'e' AND (objoid = ANY (%(functions)s) OR objoid = ANY (%(relations)s))""",
]

_MEMBERS = """
    SELECT coalesce(array_agg(objid::int8), '{}') FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND refobjid = %s AND deptype = 'e' AND classid = %s::regclass"""


def describe(session: Session, extension: str) -> list[str]:
    """Sorted lines."""
    oid = session.one("SELECT oid::int8 FROM pg_extension WHERE extname = %s", extension)
    arguments = {
        "extension": oid,
        "functions": session.one(_MEMBERS, oid, "pg_proc"),
        "relations": session.one(_MEMBERS, oid, "pg_class"),
    }
    lines = []
    for query in _LINES:
        # format() has its own %s.
        names = {name: f"%({name})s" for name in arguments}
        escaped = query.replace("%", "%%")
        for name in names.values():
            escaped = escaped.replace(f"%{name}", name)
        lines += [line for (line,) in session.connection.execute(escaped, arguments).fetchall()]
    return sorted(lines)


def difference(one: list[str], other: list[str], names: tuple[str, str]) -> str:
    """The lines that are in only one of them."""
    return "\n".join(difflib.unified_diff(one, other, *names, n=0, lineterm=""))

-- The tables of a projection come in generations. One is live, in the context's
-- schema, where everybody looks for it. Others stand beside it, in a schema each:
-- one that is being built, and the one that was live before. A switch swaps
-- tables between the schemas, in one transaction.
--
-- Its number is never given again, because it is in the name of the lane by
-- which a generation follows the logs ('projection NAME/N', see lane_epoch and
-- progress): the lane's numbers keep two that fold the same generation apart.
create table {schema}.generation (
    n          bigint  primary key generated always as identity,
    version    int     not null, -- of the Apply that fills it
    beside     boolean not null, -- its tables are in a schema of its own
    state      text    not null check (state in ('building', 'ready', 'live', 'kept')),
    began      timestamptz not null default now(),
    built      timestamptz,      -- when it had come to the end of the logs first
    switched   timestamptz,      -- when it became live last
    projection text    not null,
    tables     text[]  not null
);
create unique index on {schema}.generation (projection) where state = 'live';
create unique index on {schema}.generation (projection) where not beside;

alter table {schema}.projection
    add column kind      text not null default 'inline' check (kind in ('inline', 'async', 'view')),
    add column paused    timestamptz, -- nobody folds it, until somebody resumes it
    add column paused_by text not null default '',
    add column failure   text not null default ''; -- why it does not go on, if that does not pass by itself

-- What is live stays so. What was being built in place begins again.
delete from {schema}.projection where not live;
insert into {schema}.generation (version, beside, state, began, built, switched, projection, tables)
select version, false, 'live', since, since, since, name, '{}' from {schema}.projection;

-- Where a generation is, its lane says.
alter table {schema}.projection
    drop column epoch, drop column tick, drop column position, drop column hash,
    alter column kind drop default;
comment on column {schema}.projection.live is 'there is a live generation, and version is its';

-- The schema of the database's ticker: one per database, shared by all its logs.
-- {schema} is replaced before the file runs.

-- An epoch is one incarnation of the cluster: its system identifier changes
-- with initdb (dump and restore, a new major version), its timeline with every
-- promotion. Transaction ids compare only within one epoch.
create table {schema}.epoch (
    n                 int primary key,
    system_identifier bigint not null,
    timeline          int not null,
    began             timestamptz not null default now(),
    unique (system_identifier, timeline)
);

create table {schema}.log (
    name text primary key,
    schema_name text not null
);

-- The primary key is the fence: of two tickers that made tick n, one fails.
-- A tick says which snapshot ends it; see the Tick type for why that is a
-- total order. high is the highest position given out when it was taken and
-- only sizes reads. 93 bytes a row; a sealed part of the log needs none.
create table {schema}.tick (
    log   text not null,
    n     bigint not null,
    epoch int not null,
    high  bigint not null,
    at    timestamptz not null default clock_timestamp(),
    snapshot pg_snapshot not null,
    primary key (log, n)
);

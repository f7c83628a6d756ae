-- What operators did, for the record. A row is written before or with the act,
-- gets its outcome once, and is never changed after that: who would change the
-- record has to own the table.
create table {schema}.operation (
    id       bigint generated always as identity primary key,
    at       timestamptz not null default clock_timestamp(),
    ended    timestamptz,   -- null: it is under way, or was interrupted
    who      text not null, -- user@host
    by_name  text not null, -- in whose name, "" if they said nothing
    command  text not null,
    target   text not null,
    outcome  text not null default '', -- "done", or why not
    detail   json not null
);
create index on {schema}.operation (at);

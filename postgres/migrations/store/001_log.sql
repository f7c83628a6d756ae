-- One context's memory. {schema} is the context's schema, {name} its name.

create sequence {schema}.event_position cache 1; -- a cache would break the order of a stream

-- The log, in parts that can be detached whole. Fixed-size columns first, so
-- that no padding is stored. Stream names compare by their bytes (collate "C"):
-- writers lock and insert in this order, it must be the one that programs sort
-- by, and it is the cheapest.
create table {schema}.event (
    position    bigint not null default nextval('{schema}.event_position'),
    xid         xid8   not null default pg_current_xact_id(),
    version     bigint not null,
    at          timestamptz not null,
    tick        bigint,          -- written when its part is sealed, null before
    part        int    not null,
    epoch       int    not null,
    schema      int    not null,
    stream      text   collate "C" not null,
    type        text   not null,
    correlation text   not null,
    causation   text   not null,
    subject     text   not null,
    trace       text   not null,
    data        json   not null,
    notes       json,
    -- Unique within a part; across parts the append's predecessor check and
    -- the way a part is closed keep a version from appearing twice.
    primary key (stream, version, part)
) partition by list (part);

-- What a tick asks for: rows of a range of transactions.
create index on {schema}.event (epoch, xid);

create table {schema}.event_1 partition of {schema}.event for values in (1);

-- A part is open, closed, sealed and detached, in this order; the parts are
-- sealed and detached in the order of their numbers.
create table {schema}.part (
    n          int primary key,
    began      timestamptz not null default now(),
    closed     timestamptz, -- nothing is added to it any more
    sealed     timestamptz, -- its order is written into it, its ticks may go
    detached   timestamptz, -- event_n is a table of its own, no part of the log
    first_tick bigint,      -- of its events; set when it is sealed
    last_tick  bigint
);
insert into {schema}.part (n) values (1);

-- The hashes of the ticks that went with sealed parts, for the cursors that
-- still point at them: 8 bytes a tick, big-endian, of consecutive ticks of one
-- epoch from first on. A tick's row takes 93.
create table {schema}.sealed_tick (
    first  bigint primary key,
    epoch  int   not null,
    hashes bytea not null
);

-- Stored states, one row each. A stock row is written again and again, and as
-- long as anybody's transaction is open nothing that it was can be cleaned up.
-- Who looks from the end of the index finds the last sixteen of its versions
-- first; with the stream alone as its key, every access went through all of
-- them. Within sixteen, updates stay heap-only, for which fillfactor leaves
-- room.
create table {schema}.state (
    row_version bigint not null,
    version bigint not null, -- of its stream: events emitted so far
    chapter bigint not null generated always as (row_version / 16) stored,
    stream  text collate "C" not null,
    data    json not null,
    open    json,
    primary key (stream, chapter)
) with (fillfactor = 70);

-- The streams that have a stored state. That key does not keep a unit from
-- making a row that two others have made and changed meanwhile; this one does.
create table {schema}.stored (
    stream text collate "C" primary key
);

-- Baselines of event-sourced states.
create table {schema}.snapshot (
    version bigint not null,
    stream  text collate "C" not null,
    data    json not null,
    open    json,
    primary key (stream, version)
);

-- What lanes have processed. Append-only; the key is the fence. Partitioned by
-- n, so that the key stays unique over all parts, and a zombie that writes
-- into a range already dropped fails too.
create table {schema}.progress (
    n          bigint not null,
    epoch      int    not null, -- of the cursor
    lane_epoch int    not null,
    k          int    not null,
    tick       bigint not null,
    position   bigint not null,
    hash       bigint not null,
    at         timestamptz not null default clock_timestamp(),
    subscriber text   not null,
    log        text   not null,
    note       json,
    primary key (subscriber, log, lane_epoch, k, n)
) partition by range (n);

create table {schema}.lane_epoch (
    n          int not null,
    lanes      int not null,
    epoch      int not null,
    tick       bigint not null,
    position   bigint not null,
    hash       bigint not null,
    began      timestamptz not null default now(),
    subscriber text not null,
    log        text not null,
    types      text[] not null,
    primary key (subscriber, log, n)
);

create table {schema}.parked (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default now(),
    retry_at   timestamptz,
    resolved   timestamptz,
    attempts   int not null,
    subscriber text not null,
    reaction   text not null,
    key        text not null,
    cause      text not null,
    program    text not null, -- version of the program that failed
    event      json not null, -- all but its data
    data       json not null  -- of the event, to the byte
);
create index on {schema}.parked (subscriber, id) where resolved is null;

-- Answers by idempotency key, a partition a day, dropped whole after eight.
-- The key is unique within a day only, so a key is looked for in all of them
-- before it is written, and around midnight it is written under both days: two
-- requests with one key that race each other meet on the primary key.
create table {schema}.reply (
    xid   xid8  not null, -- of the commit, 0 if it emitted no events
    epoch int   not null,
    day   date  not null,
    key   text  collate "C" not null,
    hash  bytea not null,
    body  json  not null,
    primary key (key, day)
) partition by range (day);

-- A unit's statements and its commit travel together; this is how a statement
-- that wrote fewer rows than it should keeps the commit from being reached.
create function {schema}.expect(what text, written bigint, wanted bigint) returns void
language plpgsql as $$
begin
    if written <> wanted then
        raise exception '% of % rows of % could be written', written, wanted, what
            using errcode = 'CR001', table = what;
    end if;
end $$;

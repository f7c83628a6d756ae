-- What an operator needs to judge a message that is set aside. The event's
-- correlation is a column because a saga asks for its own.
alter table {schema}.parked
    add column first_failed  timestamptz,               -- null: it only waits behind another
    add column last_failed   timestamptz,
    add column last_program  text not null default '',  -- program is the version that failed first
    add column fingerprint   text not null default '',
    add column correlation   text not null default '',
    add column stack         text not null default '',
    add column discarded     text;                      -- why it is not handled; null: it was, or will be

-- The first of a key is the one that counts; the others wait behind it.
drop index {schema}.parked_subscriber_id_idx;
create index on {schema}.parked (subscriber, key, id) where resolved is null;
create index on {schema}.parked (subscriber, id) where resolved is null;
create index on {schema}.parked (subscriber, correlation, id) where resolved is null;
create index on {schema}.parked (resolved) where discarded is not null;

-- Grows with what operators do to parked messages: an owner of a lane looks at
-- this one row to learn of it. In a table of its own, because nobody else may
-- have to wait for it.
create table {schema}.parked_revision (
    n          bigint not null,
    subscriber text   primary key
);

-- Lane epochs without lanes are decisions of operators: where a subscriber
-- begins, or that it is retired. With who and when (began), each is its own
-- record.
alter table {schema}.lane_epoch
    add column retired boolean not null default false,
    add column by      text    not null default '';

-- Counted when the part is sealed; null in parts sealed before this existed.
alter table {schema}.part add column events bigint;

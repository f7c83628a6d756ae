-- The processes that run the service now, and which of its lanes each has. Few
-- rows, each renewed about once a second; what is lost with a crash of the
-- server is claimed again.
create unlogged table {schema}.process (
    until timestamptz not null,
    name  text primary key
) with (fillfactor = 10);

create unlogged table {schema}.lease (
    until   timestamptz not null,
    name    text primary key,
    process text not null
) with (fillfactor = 10);

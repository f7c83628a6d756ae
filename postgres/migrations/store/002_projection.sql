-- The projections in this schema: SQL tables of the context's own that change
-- with its events, see courante.Projection. Units compare what is live here
-- with what their program keeps, in the statement of their events; so there is
-- a row for each projection and nothing else, and it changes only while one is
-- built.
create table {schema}.projection (
    version  int     not null,
    epoch    int     not null, -- the cursor up to which it was built
    tick     bigint  not null,
    position bigint  not null,
    hash     bigint  not null,
    live     boolean not null, -- every unit changes it; otherwise it is being built
    since    timestamptz not null default now(),
    name     text    primary key
);

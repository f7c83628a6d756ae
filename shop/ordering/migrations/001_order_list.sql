-- The list of orders: a row for each, as it stands. It is a projection of the
-- log; whoever changes what a column means raises its version (see list.go).
--
-- Fixed-size columns first, so that no padding is stored. Texts compare by
-- their bytes (collate "C"): the cheapest, and the same on every machine, which
-- cursors need. The fillfactor leaves room for heap-only updates, which events
-- that do not change the status make.
create table {schema}.order_list (
    version     bigint      not null, -- of the order's stream
    total       bigint      not null, -- minor units of currency
    created_at  timestamptz not null,
    lines       int         not null,
    order_id    text collate "C" primary key,
    customer_id text collate "C" not null,
    status      text collate "C" not null,
    currency    text        not null
) with (fillfactor = 85);

-- Newest first, of all orders, of a customer's, and of those in a status. Both
-- filters together take the one of the two indexes that leaves fewer rows: a
-- fourth index would be written at every change of every order, to spare few
-- readers little.
create index on {schema}.order_list (created_at, order_id);
create index on {schema}.order_list (customer_id, created_at, order_id);
create index on {schema}.order_list (status, created_at, order_id);

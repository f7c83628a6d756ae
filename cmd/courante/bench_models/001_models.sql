-- The read models of "courante bench rebuild".

-- Few rows, which every stretch of the log changes.
create table {schema}.count_by_day (
	events bigint not null,
	day    date not null,
	type   text not null,
	primary key (day, type)
);

-- A row for each stream, with an index that a list in pages would have.
create table {schema}.order_row (
	version    bigint not null,
	created_at timestamptz not null,
	lines      int not null,
	order_id   text not null primary key,
	status     text not null
);
create index on {schema}.order_row (created_at desc, order_id desc);

create table {schema}.loan_list (
    loan   text primary key,
    book   text not null,
    reader text not null,
    status text not null
);
create index on {schema}.loan_list (reader, loan);

-- By age, whatever became of them: those resolved long ago are deleted.
create index on {schema}.parked (resolved) where resolved is not null;

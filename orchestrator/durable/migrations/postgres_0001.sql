-- readable_by: 1

CREATE TABLE runs (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    consumer text COLLATE "C" NOT NULL,
    relaunch_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C",
    priority smallint NOT NULL,
    created_at double precision NOT NULL,
    deadline_at double precision NOT NULL,
    -- The stored form, the version of it, and what is searched for in it.
    run_schema integer NOT NULL,
    state text COLLATE "C" NOT NULL,
    target bigint,
    run text COLLATE "C" NOT NULL,
    version integer NOT NULL DEFAULT 0,
    epoch integer NOT NULL DEFAULT 0,
    owner text COLLATE "C",
    due_at double precision,
    api_calls integer NOT NULL DEFAULT 0,
    admitted boolean NOT NULL DEFAULT false,
    asked_at double precision NOT NULL DEFAULT 0,
    hints integer NOT NULL DEFAULT 0,
    hinted bigint,
    abort_requested boolean NOT NULL DEFAULT false,
    hints_seen integer NOT NULL DEFAULT 0,
    updated_at double precision NOT NULL,
    finished_at double precision
)
-- A transition writes the row again: room beside it keeps it on its page, out of every index
-- (so no index may be about what each transition changes), and it is never compressed.
WITH (fillfactor = 50, toast_tuple_target = 8160);

CREATE UNIQUE INDEX runs_by_id ON runs (relaunch_id, consumer);

-- Single-flight: a learner of an API consumer has one unfinished run.
CREATE UNIQUE INDEX runs_single_flight ON runs (user_id, consumer) WHERE finished_at IS NULL;

CREATE UNIQUE INDEX runs_by_key ON runs (idempotency_key, consumer)
    WHERE idempotency_key IS NOT NULL;

CREATE INDEX runs_by_target ON runs (target, consumer)
    WHERE finished_at IS NULL AND target IS NOT NULL;

CREATE INDEX runs_unfinished ON runs (consumer, priority, created_at, relaunch_id)
    WHERE finished_at IS NULL;

CREATE INDEX runs_history ON runs (consumer, created_at, relaunch_id);

CREATE INDEX runs_of_learner ON runs (user_id, consumer, created_at, relaunch_id);

CREATE INDEX runs_finished ON runs (consumer, finished_at) WHERE finished_at IS NOT NULL;

-- Written only together with its run, and removed with it: a foreign key would check, at three
-- times the price, what the statements can't get wrong.
CREATE TABLE journal (
    run bigint NOT NULL,
    version integer NOT NULL,
    entry text COLLATE "C" NOT NULL,
    PRIMARY KEY (run, version)
);

-- Small texts that all processes read and change: budgets, circuits. What is gone is NULL, so that
-- the version goes on.
CREATE TABLE shared (
    consumer text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    text text COLLATE "C",
    version bigint NOT NULL,
    PRIMARY KEY (consumer, name)
)
WITH (fillfactor = 10);

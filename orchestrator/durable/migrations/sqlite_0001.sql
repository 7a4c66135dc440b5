-- readable_by: 1

CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    consumer TEXT NOT NULL,
    relaunch_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    idempotency_key TEXT,
    priority INTEGER NOT NULL,
    created_at REAL NOT NULL,
    deadline_at REAL NOT NULL,
    -- The stored form, the version of it, and what is searched for in it.
    run_schema INTEGER NOT NULL,
    state TEXT NOT NULL,
    target INTEGER,
    run TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    due_at REAL,
    api_calls INTEGER NOT NULL DEFAULT 0,
    admitted INTEGER NOT NULL DEFAULT 0,
    asked_at REAL NOT NULL DEFAULT 0,
    hints INTEGER NOT NULL DEFAULT 0,
    hinted INTEGER,
    abort_requested INTEGER NOT NULL DEFAULT 0,
    hints_seen INTEGER NOT NULL DEFAULT 0,
    updated_at REAL NOT NULL,
    finished_at REAL
);

CREATE UNIQUE INDEX runs_by_id ON runs (relaunch_id, consumer);

-- Single-flight: a learner of an API consumer has one unfinished run.
CREATE UNIQUE INDEX runs_single_flight ON runs (user_id, consumer) WHERE finished_at IS NULL;

CREATE UNIQUE INDEX runs_by_key ON runs (idempotency_key, consumer)
    WHERE idempotency_key IS NOT NULL;

CREATE INDEX runs_due ON runs (consumer, due_at) WHERE finished_at IS NULL;

CREATE INDEX runs_by_target ON runs (target, consumer)
    WHERE finished_at IS NULL AND target IS NOT NULL;

-- Everything that standing in line asks for, so that it needs no look at the runs.
CREATE INDEX runs_in_line
    ON runs (consumer, admitted, priority, created_at, relaunch_id, asked_at)
    WHERE finished_at IS NULL;

CREATE INDEX runs_history ON runs (consumer, created_at, relaunch_id);

CREATE INDEX runs_of_learner ON runs (user_id, consumer, created_at, relaunch_id);

CREATE INDEX runs_finished ON runs (consumer, finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE journal (
    run INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (run, version)
) WITHOUT ROWID;

-- Processes that drive runs, and until when they are known to live.
CREATE TABLE owners (
    consumer TEXT NOT NULL,
    owner TEXT NOT NULL,
    alive_until REAL NOT NULL,
    PRIMARY KEY (consumer, owner)
) WITHOUT ROWID;

-- Small texts that all processes read and change: budgets, circuits.
CREATE TABLE shared (
    consumer TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (consumer, name)
) WITHOUT ROWID;

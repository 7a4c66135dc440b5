-- readable_by: 1

CREATE TABLE batches (
    number INTEGER PRIMARY KEY,
    consumer TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    total INTEGER NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    state TEXT NOT NULL,
    reason TEXT,
    holder TEXT,
    held_until REAL,
    -- The stored forms, and the version of them.
    batch_schema INTEGER NOT NULL,
    policy TEXT NOT NULL,
    pace TEXT NOT NULL,
    about TEXT NOT NULL
);

CREATE UNIQUE INDEX batches_by_id ON batches (batch_id, consumer);

CREATE INDEX batches_by_fingerprint ON batches (fingerprint, consumer, created_at, batch_id);

CREATE INDEX batches_history ON batches (consumer, created_at, batch_id);

CREATE INDEX batches_unfinished ON batches (consumer, created_at, batch_id)
    WHERE ended_at IS NULL;

CREATE INDEX batches_ended ON batches (consumer, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE batch_items (
    batch INTEGER NOT NULL REFERENCES batches (number) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    item TEXT NOT NULL,
    -- 'waiting', 'in flight', or 'ended: ' and the outcome.
    standing TEXT NOT NULL DEFAULT 'waiting',
    attempt INTEGER NOT NULL DEFAULT 0,
    relaunch_id TEXT,
    begun_at REAL,
    ended_at REAL,
    api_calls INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    PRIMARY KEY (batch, number)
);

-- Everything that counting asks for, and those of one standing in order.
CREATE INDEX batch_items_by_standing ON batch_items (batch, standing, number, api_calls);

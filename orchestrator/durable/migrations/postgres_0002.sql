-- readable_by: 1

CREATE TABLE batches (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    consumer text COLLATE "C" NOT NULL,
    batch_id text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    total integer NOT NULL,
    created_at double precision NOT NULL,
    started_at double precision NOT NULL,
    ended_at double precision,
    state text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    holder text COLLATE "C",
    held_until double precision,
    -- The stored forms, and the version of them.
    batch_schema integer NOT NULL,
    policy text COLLATE "C" NOT NULL,
    pace text COLLATE "C" NOT NULL,
    about text COLLATE "C" NOT NULL
);

CREATE UNIQUE INDEX batches_by_id ON batches (batch_id, consumer);

CREATE INDEX batches_by_fingerprint ON batches (fingerprint, consumer, created_at, batch_id);

CREATE INDEX batches_history ON batches (consumer, created_at, batch_id);

CREATE INDEX batches_unfinished ON batches (consumer, created_at, batch_id)
    WHERE ended_at IS NULL;

CREATE INDEX batches_ended ON batches (consumer, ended_at) WHERE ended_at IS NOT NULL;

-- Written only with its batch and removed with it: see the journal.
CREATE TABLE batch_items (
    batch bigint NOT NULL,
    number integer NOT NULL,
    item text COLLATE "C" NOT NULL,
    -- 'waiting', 'in flight', or 'ended: ' and the outcome.
    standing text COLLATE "C" NOT NULL DEFAULT 'waiting',
    attempt integer NOT NULL DEFAULT 0,
    relaunch_id text COLLATE "C",
    begun_at double precision,
    ended_at double precision,
    api_calls integer NOT NULL DEFAULT 0,
    result text COLLATE "C",
    PRIMARY KEY (batch, number)
);

-- Everything that counting asks for, and those of one standing in order.
CREATE INDEX batch_items_by_standing ON batch_items (batch, standing, number, api_calls);

-- A database of schema 1 with data, as the first version of the program left it. Never to be changed.
BEGIN TRANSACTION;
CREATE TABLE journal (
    run INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (run, version)
) WITHOUT ROWID;
INSERT INTO "journal" VALUES(1,1,'{"at":1800000001.0,"elapsed_seconds":1.0,"phase":"surveying","attempt":0,"message":"Looking at which labs the learner has.","calling":"survey","next_look_at":1800000000.0,"event":"Woke"}');
INSERT INTO "journal" VALUES(1,2,'{"at":1800000002.0,"elapsed_seconds":2.0,"phase":"launching","attempt":0,"message":"Launching lab 7.","calling":"launch","next_look_at":1800000000.0,"event":"Woke","tag":"relaunch=finished"}');
INSERT INTO "journal" VALUES(1,3,'{"at":1800000003.0,"elapsed_seconds":3.0,"phase":"launched","attempt":0,"message":"Lab instance 3 was launched for user ann, lab 7.","next_look_at":1800000060.0,"lab_instance_id":3,"event":"Woke"}');
INSERT INTO "journal" VALUES(2,1,'{"at":1800000001.0,"elapsed_seconds":0.0,"phase":"displacing","attempt":0,"message":"Ending lab instance 41.","calling":"cancel","next_look_at":1800000002.0,"lab_instance_id":41,"event":"Woke"}');
INSERT INTO "journal" VALUES(2,2,'{"at":1800000002.0,"elapsed_seconds":1.0,"phase":"tearing_down","attempt":0,"message":"Waiting while lab instance 41 is torn down.","next_look_at":1800000060.0,"lab_instance_id":41,"event":"Woke"}');
CREATE TABLE owners (
    consumer TEXT NOT NULL,
    owner TEXT NOT NULL,
    alive_until REAL NOT NULL,
    PRIMARY KEY (consumer, owner)
) WITHOUT ROWID;
INSERT INTO "owners" VALUES('default','dead process',1800000005.0);
CREATE TABLE relaunch_schema (
    version INTEGER NOT NULL,
    readable_by INTEGER NOT NULL
);
INSERT INTO "relaunch_schema" VALUES(1,1);
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
INSERT INTO "runs" VALUES(1,'default','finished','ann','monday',0,1800000000.0,1800000900.0,1,'launched',NULL,'{"schema":1,"relaunch_id":"finished","user_id":"ann","lab_profile_id":7,"parameters":{"first_name":"Ann","last_name":null,"email":null,"class_id":null,"can_be_marked_complete":null,"tag":null,"ip_address":null,"region_id":null,"role_ids":[],"variables":{"a":"b"},"max_saved_labs":null,"max_active_labs":null,"lang":null,"instructions_id":null,"duration_minutes":null,"last_activity_timeout_minutes":null},"policy":{"probe":true,"if_running":"replace","choose":"oldest","displace":"cancel","displace_instance_id":null,"overlap":false,"allow_exam":false,"on_saved":"refuse","on_active_labs_page":"continue","detect":"details","max_recancels":2,"deadline_seconds":900.0},"created_at":1800000000.0,"deadline_at":1800000900.0,"state":"launched","known":[1,2],"new_instance_id":3,"new_url":"https://labs.example/3"}',3,1,NULL,NULL,3,0,0.0,0,NULL,0,0,1800000003.0,1800000003.0);
INSERT INTO "runs" VALUES(2,'default','waiting','ann','tuesday',0,1800000001.0,1800000900.0,1,'tearing_down',41,'{"schema":1,"relaunch_id":"waiting","user_id":"ann","lab_profile_id":7,"parameters":{"first_name":null,"last_name":null,"email":null,"class_id":null,"can_be_marked_complete":null,"tag":null,"ip_address":null,"region_id":null,"role_ids":[],"variables":{},"max_saved_labs":null,"max_active_labs":null,"lang":null,"instructions_id":null,"duration_minutes":null,"last_activity_timeout_minutes":null},"policy":{"probe":true,"if_running":"replace","choose":"oldest","displace":"cancel","displace_instance_id":null,"overlap":false,"allow_exam":false,"on_saved":"refuse","on_active_labs_page":"continue","detect":"details","max_recancels":2,"deadline_seconds":900.0},"created_at":1800000001.0,"deadline_at":1800000900.0,"state":"tearing_down","running":[{"instance_id":41,"lab_profile_id":7,"lab_profile_name":null,"started_at":null,"expires_at":null,"is_exam":false}],"known":[41],"target":41,"cancelled":[41],"displace_attempts":1,"displacements":1,"wait_since":1800000002.0}',2,1,'dead process',1800000009.0,2,1,1800000001.0,1,41,0,0,1800000002.0,NULL);
INSERT INTO "runs" VALUES(3,'default','new','bób',NULL,1,1800000002.0,1800000900.0,1,'new',NULL,'{"schema":1,"relaunch_id":"new","user_id":"b\u00f3b","lab_profile_id":7,"parameters":{"first_name":null,"last_name":null,"email":null,"class_id":null,"can_be_marked_complete":null,"tag":null,"ip_address":null,"region_id":null,"role_ids":[],"variables":{},"max_saved_labs":null,"max_active_labs":null,"lang":null,"instructions_id":null,"duration_minutes":null,"last_activity_timeout_minutes":null},"policy":{"probe":true,"if_running":"replace","choose":"oldest","displace":"cancel","displace_instance_id":null,"overlap":false,"allow_exam":false,"on_saved":"refuse","on_active_labs_page":"continue","detect":"details","max_recancels":2,"deadline_seconds":900.0},"created_at":1800000002.0,"deadline_at":1800000900.0}',0,0,NULL,1800000002.0,0,0,0.0,0,NULL,0,0,1800000002.0,NULL);
CREATE TABLE shared (
    consumer TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (consumer, name)
) WITHOUT ROWID;
INSERT INTO "shared" VALUES('default','budget','{"tokens":3}');
CREATE UNIQUE INDEX runs_by_id ON runs (relaunch_id, consumer);
CREATE UNIQUE INDEX runs_single_flight ON runs (user_id, consumer) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX runs_by_key ON runs (idempotency_key, consumer)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_due ON runs (consumer, due_at) WHERE finished_at IS NULL;
CREATE INDEX runs_by_target ON runs (target, consumer)
    WHERE finished_at IS NULL AND target IS NOT NULL;
CREATE INDEX runs_in_line
    ON runs (consumer, admitted, priority, created_at, relaunch_id, asked_at)
    WHERE finished_at IS NULL;
CREATE INDEX runs_history ON runs (consumer, created_at, relaunch_id);
CREATE INDEX runs_of_learner ON runs (user_id, consumer, created_at, relaunch_id);
CREATE INDEX runs_finished ON runs (consumer, finished_at) WHERE finished_at IS NOT NULL;
COMMIT;

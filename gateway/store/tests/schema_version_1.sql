-- The schema as version 1 shipped it. Never changed: the test of the migrations starts from it.
CREATE TABLE batches(
    sequence INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE snapshots(
    sequence INTEGER PRIMARY KEY,
    engine_version INTEGER NOT NULL,
    site_hash TEXT NOT NULL,
    raw_bytes INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE sites(
    hash TEXT PRIMARY KEY,
    saved_after INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE site_changes(
    sequence INTEGER PRIMARY KEY,
    hash TEXT NOT NULL);
CREATE TABLE cursors(
    sink TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL);
CREATE TABLE alarms(
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    condition TEXT NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX alarms_by_time ON alarms(opened_at, id);
CREATE INDEX alarms_by_device ON alarms(device, opened_at, id);
CREATE INDEX alarms_open ON alarms(opened_at, id) WHERE open = 1;
CREATE TABLE cases(
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    condition TEXT NOT NULL,
    state TEXT NOT NULL,
    final INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX cases_by_time ON cases(opened_at, id);
CREATE INDEX cases_by_device ON cases(device, opened_at, id);
CREATE INDEX cases_kept ON cases(opened_at, id) WHERE kept = 1;
CREATE INDEX cases_not_final ON cases(opened_at, id) WHERE final = 0;
CREATE TABLE case_events(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id TEXT NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX case_events_by_case ON case_events(case_id, number);
CREATE TABLE outbox(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL,
    case_id TEXT NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL,
    note TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX outbox_open ON outbox(number) WHERE open = 1;
CREATE INDEX outbox_by_case ON outbox(case_id, number);
CREATE TABLE audit(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX audit_by_subject ON audit(subject, number);
CREATE TABLE undecoded(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    device TEXT,
    detail TEXT NOT NULL,
    at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    frame BLOB NOT NULL);
CREATE INDEX undecoded_by_address ON undecoded(source, address, reason, number);
CREATE TABLE totals(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL DEFAULT 0,
    batches INTEGER NOT NULL DEFAULT 0,
    batches_bytes INTEGER NOT NULL DEFAULT 0,
    undecoded INTEGER NOT NULL DEFAULT 0,
    undecoded_bytes INTEGER NOT NULL DEFAULT 0,
    dropped_batches INTEGER NOT NULL DEFAULT 0,
    dropped_bytes INTEGER NOT NULL DEFAULT 0,
    dropped_undecoded INTEGER NOT NULL DEFAULT 0,
    exceeded INTEGER NOT NULL DEFAULT 0,
    excess_batches INTEGER NOT NULL DEFAULT 0,
    excess_bytes INTEGER NOT NULL DEFAULT 0);
INSERT INTO totals(id) VALUES (1);

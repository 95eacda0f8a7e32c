BEGIN TRANSACTION;
CREATE TABLE acted_files (
	match_id TEXT NOT NULL, 
	response_id TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	source_name TEXT NOT NULL, 
	object_sha256 TEXT, 
	manager TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	claimed_at DATETIME NOT NULL, 
	counts BOOLEAN NOT NULL, 
	CONSTRAINT pk_acted_files PRIMARY KEY (match_id)
);
INSERT INTO "acted_files" VALUES('52c7b6136275e9159ea5e217bf74a5ce','r1','task-1','cape','abababababababababababababababababababababababababababababababab','local','ws01','2026-03-01 12:00:00.000500',1);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE approvals (
	approval_id TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	match_ids TEXT NOT NULL, 
	state TEXT NOT NULL, 
	requested_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	decided_at DATETIME, 
	decided_by TEXT, 
	chat_user TEXT, 
	ioc_digest TEXT, 
	reason TEXT, 
	CONSTRAINT pk_approvals PRIMARY KEY (approval_id)
);
INSERT INTO "approvals" VALUES('a1','task-1','["m"]','open','2026-03-01 12:00:00.000500','2026-03-02 12:00:00.000500',NULL,NULL,NULL,NULL,'');
CREATE TABLE detection_revisions (
	detection_id TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	content_digest TEXT NOT NULL, 
	received_at DATETIME NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_detection_revisions PRIMARY KEY (detection_id, revision)
);
INSERT INTO "detection_revisions" VALUES('cape:main:1',1,'df289354bbae1106db9f7f6a0c1519b3dacbbaa1fd4532649cc5cfe0518fd0a6','2026-03-01 12:00:00.000500','{"detected_at":"2026-03-01T11:00:00Z","detection_id":"cape:main:1","indicators":[],"schema_version":"1.0","source":{"instance":"main","product":"cape","report_id":"1"},"target":{"category":"file","hashes":{"SHA-256":"abababababababababababababababababababababababababababababababab"}},"verdict":{"families":["Emotet"],"result":"malicious","score":90}}');
CREATE TABLE detections (
	detection_id TEXT NOT NULL, 
	source_name TEXT NOT NULL, 
	product TEXT NOT NULL, 
	instance TEXT NOT NULL, 
	report_id TEXT NOT NULL, 
	object_sha256 TEXT, 
	verdict_result TEXT NOT NULL, 
	score FLOAT, 
	families TEXT NOT NULL, 
	detected_at DATETIME NOT NULL, 
	received_at DATETIME NOT NULL, 
	revision INTEGER NOT NULL, 
	content_digest TEXT NOT NULL, 
	degraded BOOLEAN NOT NULL, 
	document TEXT NOT NULL, 
	decision TEXT, 
	policy_name TEXT, 
	task_id TEXT, 
	reason TEXT, 
	CONSTRAINT pk_detections PRIMARY KEY (detection_id)
);
INSERT INTO "detections" VALUES('cape:main:1','cape','cape','main','1','abababababababababababababababababababababababababababababababab','malicious',90.0,'["Emotet"]','2026-03-01 11:00:00.000000','2026-03-01 12:00:00.000500',2,'6ed422a7b0fa78be2e2dff3f5bba851dd86c8a411d23bbe27f67a65b3b2acec9',0,'{"detected_at":"2026-03-01T11:00:00Z","detection_id":"cape:main:1","indicators":[],"schema_version":"1.0","source":{"instance":"main","product":"cape","report_id":"1"},"target":{"category":"file","hashes":{"SHA-256":"abababababababababababababababababababababababababababababababab"}},"tlp":"red","verdict":{"families":["Emotet"],"result":"malicious","score":90}}','task','workstations','task-1','');
INSERT INTO "detections" VALUES('cape:main:2','cape','cape','main','2','abababababababababababababababababababababababababababababababab','malicious',90.0,'["Emotet"]','2026-03-01 11:00:00.000000','2026-03-01 12:00:00.000500',1,'0ce3289d4a5985294f87ded1833c02999e3ffe3c857465e7446342dad6186ef9',0,'{"detected_at":"2026-03-01T11:00:00Z","detection_id":"cape:main:2","indicators":[],"schema_version":"1.0","source":{"instance":"main","product":"cape","report_id":"2"},"target":{"category":"file","hashes":{"SHA-256":"abababababababababababababababababababababababababababababababab"}},"verdict":{"families":["Emotet"],"result":"malicious","score":90}}',NULL,NULL,NULL,NULL);
CREATE TABLE event_anchors (
	event_id BIGINT NOT NULL, 
	digest TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	CONSTRAINT pk_event_anchors PRIMARY KEY (event_id)
);
INSERT INTO "event_anchors" VALUES(1,'c0169465cd5f66e4015fba48789e3b1204e02046694687398ed2d99512aff2fd','2026-03-01 12:00:00.000500','alice');
CREATE TABLE events (
	event_id BIGINT NOT NULL, 
	at DATETIME NOT NULL, 
	type TEXT NOT NULL, 
	detection_id TEXT, 
	task_id TEXT, 
	manager TEXT, 
	device_id TEXT, 
	actor TEXT, 
	data TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (event_id)
);
INSERT INTO "events" VALUES(2,'2026-03-01 12:00:00.000500','match_found',NULL,'task-1','local','ws01',NULL,'{}','8a14a1811f277ff0907d0ecb6045eb11a166d4ea3d1b5347fe169dffa2d38e09');
INSERT INTO "events" VALUES(3,'2026-03-01 12:00:00.000500','response_done',NULL,'task-1',NULL,NULL,'alice','{}','f4833ba2571f8dd86c467d4d3d9bf3178e35a108c1af8df50c04dde2917d2f11');
INSERT INTO "events" VALUES(4,'2026-03-01 12:00:00.000500','audit_trimmed',NULL,NULL,NULL,NULL,'alice','{"digest":"c0169465cd5f66e4015fba48789e3b1204e02046694687398ed2d99512aff2fd","removed":1,"up_to_event":1}','7544ea1ee5c3b9bea5fb7d4b60850503ebf17960629ae2b0d4c1787a85ea42c1');
CREATE TABLE exemptions (
	sha256 TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_exemptions PRIMARY KEY (sha256)
);
INSERT INTO "exemptions" VALUES('efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef','2026-03-01 12:00:00.000500','alice','ours');
CREATE TABLE fetches (
	detection_id TEXT NOT NULL, 
	source_name TEXT NOT NULL, 
	report_id TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	code TEXT, 
	message TEXT, 
	next_try_at DATETIME, 
	state TEXT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_fetches PRIMARY KEY (detection_id)
);
INSERT INTO "fetches" VALUES('cape:main:3','cape','3',1,'report_truncated','cut \x00 off','2026-03-01 12:00:00.000500','pending','2026-03-01 12:00:00.000500');
CREATE TABLE flags (
	name TEXT NOT NULL, 
	value TEXT, 
	updated_at DATETIME NOT NULL, 
	updated_by TEXT, 
	CONSTRAINT pk_flags PRIMARY KEY (name)
);
INSERT INTO "flags" VALUES('kill_switch','false','2026-03-01 12:00:00.000500','alice');
CREATE TABLE ioc_files (
	digest TEXT NOT NULL, 
	ioc_id TEXT NOT NULL, 
	detection_id TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	version TEXT NOT NULL, 
	content BLOB NOT NULL, 
	item_count BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_ioc_files PRIMARY KEY (digest)
);
INSERT INTO "ioc_files" VALUES('3ba98279e220191ae20a513df20d2ecc88475091fa7941708099ea1cf7402dad','i','cape:main:1','actionable','1.0',X'3C696F632F3E00FF',1,'2026-03-01 12:00:00.000500');
CREATE TABLE jobs (
	job_id TEXT NOT NULL, 
	task_id TEXT, 
	run INTEGER, 
	kind TEXT NOT NULL, 
	manager TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	not_before DATETIME NOT NULL, 
	not_after DATETIME NOT NULL, 
	cursor TEXT, 
	state TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	response_id TEXT, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (job_id)
);
INSERT INTO "jobs" VALUES('j1','task-1',2,'scan','local','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500','2026-03-08 12:00:00.000500',NULL,'open','{"scope":"critical"}',NULL,'2026-03-01 12:00:00.000500');
INSERT INTO "jobs" VALUES('j2','task-1',2,'scan','local','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500','2026-03-08 12:00:00.000500',NULL,'withdrawing','{"scope":"critical"}',NULL,'2026-03-01 12:00:00.000500');
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	expires_at DATETIME NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('process_results','host:1','2026-03-01 12:01:00.000500');
CREATE TABLE matches (
	match_id TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	run INTEGER NOT NULL, 
	manager TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	"group" TEXT NOT NULL, 
	item_key TEXT NOT NULL, 
	ioc_digest TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	document TEXT NOT NULL, 
	path TEXT, 
	path_b64 TEXT, 
	sha256 TEXT, 
	size BIGINT, 
	st_dev BIGINT, 
	st_ino BIGINT, 
	item TEXT NOT NULL, 
	proof TEXT NOT NULL, 
	found_at DATETIME NOT NULL, 
	response_state TEXT NOT NULL, 
	response_id TEXT, 
	response_code TEXT, 
	response_message TEXT, 
	quarantine_id TEXT, 
	claimed_at DATETIME, 
	responded_at DATETIME, 
	CONSTRAINT pk_matches PRIMARY KEY (match_id), 
	CONSTRAINT fk_matches_task_id_tasks FOREIGN KEY(task_id) REFERENCES tasks (task_id), 
	CONSTRAINT uq_matches_item UNIQUE (task_id, run, manager, device_id, item_key, ioc_digest)
);
INSERT INTO "matches" VALUES('52c7b6136275e9159ea5e217bf74a5ce','task-1',2,'local','ws01','workstations','item-1','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','actionable','FileItem','/a\udcff','L2hvbWUvYS94LmV4ZQ==','5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff',10,1,-1,'{"FullPath":"/home/a/x.exe"}','["i1"]','2026-03-01 12:00:00.000500','quarantined','r1',NULL,NULL,'q1','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500');
INSERT INTO "matches" VALUES('f4514d3447789d95f756bf93b1ce5f21','task-1',2,'local','ws01','workstations','item-2','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','actionable','FileItem','/a\udcff','L2hvbWUvYS94LmV4ZQ==','5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff5eff',10,1,-2,'{"FullPath":"/home/a/x.exe"}','["i1"]','2026-03-01 12:00:00.000500','none',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE outbox (
	outbox_id INTEGER NOT NULL, 
	"trigger" TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	trace_tag TEXT, 
	dedupe_key TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	injected_at DATETIME, 
	CONSTRAINT pk_outbox PRIMARY KEY (outbox_id), 
	CONSTRAINT uq_outbox_dedupe_key UNIQUE (dedupe_key)
);
INSERT INTO "outbox" VALUES(1,'ioc_scan.matches_found','{"task_id":"task-1"}',NULL,'k','2026-03-01 12:00:00.000500',NULL);
CREATE TABLE plans (
	digest TEXT NOT NULL, 
	content BLOB NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_plans PRIMARY KEY (digest)
);
INSERT INTO "plans" VALUES('44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',X'7B7D','2026-03-01 12:00:00.000500');
CREATE TABLE quarantine (
	manager TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	quarantine_id TEXT NOT NULL, 
	task_id TEXT, 
	match_id TEXT, 
	sha256 TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	path TEXT NOT NULL, 
	path_b64 TEXT NOT NULL, 
	quarantined_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	state TEXT NOT NULL, 
	restored_at DATETIME, 
	restored_by TEXT, 
	CONSTRAINT pk_quarantine PRIMARY KEY (manager, device_id, quarantine_id)
);
INSERT INTO "quarantine" VALUES('local','ws01','q1','task-1','52c7b6136275e9159ea5e217bf74a5ce','abababababababababababababababababababababababababababababababab',10,'/a','L2E=','2026-03-01 12:00:00.000500','2026-03-31 12:00:00.000500','quarantined',NULL,NULL);
CREATE TABLE responses (
	response_id TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	dry_run BOOLEAN NOT NULL, 
	state TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	requested_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	counts TEXT NOT NULL, 
	CONSTRAINT pk_responses PRIMARY KEY (response_id)
);
INSERT INTO "responses" VALUES('r1','task-1',0,'running','alice','2026-03-01 12:00:00.000500',NULL,'{}');
CREATE TABLE task_detections (
	task_id TEXT NOT NULL, 
	detection_id TEXT NOT NULL, 
	added_at DATETIME NOT NULL, 
	CONSTRAINT pk_task_detections PRIMARY KEY (task_id, detection_id), 
	CONSTRAINT fk_task_detections_task_id_tasks FOREIGN KEY(task_id) REFERENCES tasks (task_id)
);
INSERT INTO "task_detections" VALUES('task-1','cape:main:1','2026-03-01 12:00:00.000500');
CREATE TABLE task_devices (
	task_id TEXT NOT NULL, 
	manager TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	"group" TEXT NOT NULL, 
	run INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	outcome TEXT, 
	tags TEXT, 
	job_id TEXT, 
	files_seen BIGINT NOT NULL, 
	bytes_hashed BIGINT NOT NULL, 
	matches BIGINT NOT NULL, 
	progress FLOAT, 
	not_evaluated TEXT, 
	skipped TEXT, 
	error_code TEXT, 
	error_message TEXT, 
	updated_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	reached BOOLEAN NOT NULL, 
	ever_seen BOOLEAN NOT NULL, 
	CONSTRAINT pk_task_devices PRIMARY KEY (task_id, manager, device_id), 
	CONSTRAINT fk_task_devices_task_id_tasks FOREIGN KEY(task_id) REFERENCES tasks (task_id)
);
INSERT INTO "task_devices" VALUES('task-1','local','ws01','workstations',2,'done','done','[]',NULL,0,0,2,1.0,NULL,'{"denied":1}',NULL,NULL,'2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500',1,1);
INSERT INTO "task_devices" VALUES('task-1','local','ws02','workstations',2,'pending',NULL,'[]',NULL,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-03-01 12:00:00.000500',NULL,0,0);
INSERT INTO "task_devices" VALUES('task-2','local','ws01','workstations',1,'pending',NULL,'["pc"]',NULL,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-03-01 12:00:00.000500',NULL,0,0);
INSERT INTO "task_devices" VALUES('task-2','local','ws02','workstations',1,'pending',NULL,'[]',NULL,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-03-01 12:00:00.000500',NULL,0,0);
CREATE TABLE task_groups (
	task_id TEXT NOT NULL, 
	manager TEXT NOT NULL, 
	"group" TEXT NOT NULL, 
	response_mode TEXT NOT NULL, 
	CONSTRAINT pk_task_groups PRIMARY KEY (task_id, manager, "group"), 
	CONSTRAINT fk_task_groups_task_id_tasks FOREIGN KEY(task_id) REFERENCES tasks (task_id)
);
INSERT INTO "task_groups" VALUES('task-1','local','workstations','ask');
INSERT INTO "task_groups" VALUES('task-2','local','workstations','ask');
CREATE TABLE task_iocs (
	task_id TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	CONSTRAINT pk_task_iocs PRIMARY KEY (task_id, tier), 
	CONSTRAINT fk_task_iocs_task_id_tasks FOREIGN KEY(task_id) REFERENCES tasks (task_id)
);
INSERT INTO "task_iocs" VALUES('task-1','actionable','3ba98279e220191ae20a513df20d2ecc88475091fa7941708099ea1cf7402dad');
CREATE TABLE task_runs (
	task_id TEXT NOT NULL, 
	run INTEGER NOT NULL, 
	ended_at DATETIME NOT NULL, 
	coverage TEXT NOT NULL, 
	CONSTRAINT pk_task_runs PRIMARY KEY (task_id, run), 
	CONSTRAINT fk_task_runs_task_id_tasks FOREIGN KEY(task_id) REFERENCES tasks (task_id)
);
INSERT INTO "task_runs" VALUES('task-1',1,'2026-03-01 12:00:00.000500','{"answered":0,"by_state":{"pending":2},"clean":0,"failed":0,"matched":0,"never_seen":2,"reached":0,"running":0,"targeted":2,"waiting_idle":0}');
CREATE TABLE task_summaries (
	task_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	object_sha256 TEXT, 
	created_at DATETIME NOT NULL, 
	ended_at DATETIME NOT NULL, 
	state TEXT NOT NULL, 
	end_reason TEXT, 
	actor TEXT, 
	coverage TEXT NOT NULL, 
	matches BIGINT NOT NULL, 
	actions TEXT NOT NULL, 
	CONSTRAINT pk_task_summaries PRIMARY KEY (task_id)
);
INSERT INTO "task_summaries" VALUES('task-2','IOC Scan task-2','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500','cancelled','by alice','alice','{"answered":0,"by_state":{"pending":2},"clean":0,"failed":0,"matched":0,"never_seen":2,"reached":0,"running":0,"targeted":2,"waiting_idle":0}',0,'{"by_outcome":{},"responses":0}');
CREATE TABLE tasks (
	task_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	object_sha256 TEXT, 
	live_object TEXT, 
	detection_id TEXT NOT NULL, 
	policy_name TEXT, 
	profile TEXT NOT NULL, 
	state TEXT NOT NULL, 
	end_reason TEXT, 
	run INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	first_start_at DATETIME, 
	last_start_at DATETIME, 
	ended_at DATETIME, 
	plan_digest TEXT, 
	settings TEXT NOT NULL, 
	detections_count INTEGER NOT NULL, 
	coverage TEXT, match_counts TEXT, 
	CONSTRAINT pk_tasks PRIMARY KEY (task_id), 
	CONSTRAINT uq_tasks_live_object UNIQUE (live_object)
);
INSERT INTO "tasks" VALUES('task-1','IOC Scan task-1','abababababababababababababababababababababababababababababababab','abababababababababababababababababababababababababababababababab','cape:main:1',NULL,'endpoint_agent','running',NULL,2,'2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500',NULL,'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','{"scope":"critical"}',1,'{"answered":1,"by_state":{"done":1,"pending":1},"clean":0,"failed":0,"matched":1,"never_seen":1,"reached":1,"running":0,"targeted":2,"waiting_idle":0}','{"actionable":{"none":1,"quarantined":1}}');
INSERT INTO "tasks" VALUES('task-2','IOC Scan task-2','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'cape:main:1',NULL,'endpoint_agent','cancelled','by alice',1,'2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500',NULL,'{}',0,'{"answered":0,"by_state":{"pending":2},"clean":0,"failed":0,"matched":0,"never_seen":2,"reached":0,"running":0,"targeted":2,"waiting_idle":0}',NULL);
CREATE TABLE withdrawals (
	job_id TEXT NOT NULL, 
	pending TEXT NOT NULL, 
	confirmed INTEGER NOT NULL, 
	requested_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_withdrawals PRIMARY KEY (job_id), 
	CONSTRAINT fk_withdrawals_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (job_id)
);
INSERT INTO "withdrawals" VALUES('j2','["ws02"]',0,'2026-03-01 12:00:00.000500','2026-03-01 12:00:00.000500');
CREATE INDEX ix_acted_files_claimed_at ON acted_files (claimed_at);
CREATE INDEX ix_acted_files_manager_device_id ON acted_files (manager, device_id);
CREATE INDEX ix_acted_files_object_sha256 ON acted_files (object_sha256);
CREATE INDEX ix_acted_files_source_name_claimed_at ON acted_files (source_name, claimed_at);
CREATE INDEX ix_acted_files_task_id ON acted_files (task_id);
CREATE INDEX ix_approvals_state_expires_at ON approvals (state, expires_at);
CREATE INDEX ix_approvals_task_id_state ON approvals (task_id, state);
CREATE INDEX ix_detections_decision_received_at ON detections (decision, received_at);
CREATE INDEX ix_detections_object_sha256 ON detections (object_sha256);
CREATE INDEX ix_detections_received_at ON detections (received_at);
CREATE INDEX ix_events_at ON events (at);
CREATE INDEX ix_events_detection_id_event_id ON events (detection_id, event_id);
CREATE INDEX ix_events_task_id_event_id ON events (task_id, event_id);
CREATE INDEX ix_events_type_event_id ON events (type, event_id);
CREATE INDEX ix_fetches_state_next_try_at ON fetches (state, next_try_at);
CREATE INDEX ix_ioc_files_detection_id ON ioc_files (detection_id);
CREATE INDEX ix_jobs_response_id ON jobs (response_id);
CREATE INDEX ix_jobs_state_kind ON jobs (state, kind);
CREATE INDEX ix_jobs_task_id ON jobs (task_id);
CREATE INDEX ix_outbox_injected_at_outbox_id ON outbox (injected_at, outbox_id);
CREATE INDEX ix_quarantine_quarantine_id ON quarantine (quarantine_id);
CREATE INDEX ix_quarantine_sha256 ON quarantine (sha256);
CREATE INDEX ix_quarantine_state_expires_at ON quarantine (state, expires_at);
CREATE INDEX ix_responses_state ON responses (state);
CREATE INDEX ix_responses_task_id ON responses (task_id);
CREATE INDEX ix_task_summaries_ended_at ON task_summaries (ended_at);
CREATE INDEX ix_tasks_created_at ON tasks (created_at);
CREATE INDEX ix_tasks_object_sha256 ON tasks (object_sha256);
CREATE INDEX ix_tasks_state_created_at ON tasks (state, created_at);
CREATE INDEX ix_matches_found_at ON matches (found_at);
CREATE INDEX ix_matches_response_id ON matches (response_id);
CREATE INDEX ix_matches_response_state_tier_task_id ON matches (response_state, tier, task_id);
CREATE INDEX ix_matches_sha256 ON matches (sha256);
CREATE INDEX ix_matches_task_id_found_at ON matches (task_id, found_at);
CREATE INDEX ix_matches_task_id_tier_response_state ON matches (task_id, tier, response_state);
CREATE INDEX ix_task_devices_coverage ON task_devices (task_id, outcome, state, reached, ever_seen, matches);
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER event_anchors_no_update BEFORE UPDATE ON event_anchors BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER event_anchors_no_delete BEFORE DELETE ON event_anchors BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events WHEN OLD.event_id > coalesce((SELECT max(event_id) FROM event_anchors), 0) BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
COMMIT;

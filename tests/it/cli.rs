//! The real binary: what it prints where, how it ends, and that each mistake gives one clear message.
//!
//! ```text
//!  Flash::new(args) ─▶ run() ─▶ Ended { code, stdout, stderr }      no network, no account, a lake in a temp folder
//! ```

mod lineage;
mod testing;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Records of a small demo; enough for every kind of event.
const EVENTS: &str = "3000";

/// How a run of the binary ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// One error, with this exit code and these words; never a panic.
    fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no \"{word}\" in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("internal error"), "{}", self.stderr);
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for name in ["AWS_ENDPOINT_URL", "AWS_PROFILE", "FLASH_LOG", "FLASH_SLICE_BYTES_MAX", "FLASH_SLICE_RECORDS_MAX"] {
        command.env_remove(name);
    }
    command
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Run `flash` in `folder` with words split at blanks.
fn flash(folder: &Path, line: &str) -> Ended {
    ended(command(folder, &line.split_whitespace().collect::<Vec<_>>()))
}

fn sql(folder: &Path, lake: &str, text: &str) -> Ended {
    ended(command(folder, &["sql", "--lake", lake, "--format", "json", "-c", text]))
}

/// A project with a source over files, and one view.
fn project(view: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("events/a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    write("sql/raw/e.sql", "CREATE EXTERNAL TABLE raw.e STORED AS JSONL LOCATION 'events';");
    write("sql/bronze/e.sql", view);
    folder
}

const VIEW: &str = "-- as it came\nCREATE MATERIALIZED VIEW bronze.e AS\nSELECT _payload FROM raw.e;";

#[test]
fn the_command_alone_guides_and_knows_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let guide = flash(folder.path(), "").ok();
    assert!(guide.stdout.contains("flash demo"), "{}", guide.stdout);
    assert!(flash(folder.path(), "--version").ok().stdout.contains(env!("CARGO_PKG_VERSION")));
    let verbs = [
        "demo", "new", "run", "check", "test", "plan", "apply", "diff", "simulate", "sql", "refresh", "explain",
        "lineage", "status",
    ];
    for verb in verbs {
        assert!(flash(folder.path(), &format!("{verb} --help")).ok().stdout.contains("Usage: flash"), "{verb}");
    }
    assert_eq!(flash(folder.path(), "run --no-such-flag").code, 2);
}

#[test]
fn simulated_files_are_the_same_for_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let simulate = |seed: u32, file: &str| {
        let line = format!("simulate --events 2000 --seed {seed} --duplicates 1 --broken 1 --out {file} --json");
        let ledger = flash(folder.path(), &line).ok().json();
        assert_eq!(ledger["records"], 2000);
        assert_eq!(ledger["broken"].as_u64().unwrap().abs_diff(20) / 3, 0, "{ledger}");
        std::fs::read(folder.path().join(file)).unwrap()
    };
    let first = simulate(7, "a.jsonl");
    assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 2000);
    assert!(first == simulate(7, "b.jsonl") && first != simulate(8, "c.jsonl"));
    let unwritable = flash(folder.path(), "simulate --events 10 --seed 1 --out no/such/folder.jsonl");
    unwritable.fails(3, &["no/such/folder.jsonl cannot be written"]);
    flash(folder.path(), "simulate --events 10 --seed 1 --late 200 --out d.jsonl").fails(2, &["--late 200"]);
}

#[test]
fn mistakes_in_definitions_are_shown_with_file_and_place() {
    let run = |view: &str| {
        let folder = project(view);
        let ended = flash(folder.path(), "run --until-caught-up");
        let begun = folder.path().join("lake/bronze").exists();
        assert!(!begun, "nothing may be started");
        ended
    };
    run("CREATE MATERIALIZED VIEW bronze.e AS\nSELECT FROM WHERE raw.e;").fails(2, &["sql/bronze/e.sql:2:"]);
    run("CREATE MATERIALIZED VIEW bronze.e AS\nSELECT _paylod FROM raw.e;").fails(2, &["sql/bronze/e.sql", "_paylod"]);
    run("CREATE MATERIALIZED VIEW bronze.e AS\nSELECT * FROM raw.nothing;").fails(2, &["nothing"]);
    run("CREATE MATERIALIZED VIEW bronze.other AS SELECT _payload FROM raw.e;")
        .fails(2, &["defines bronze.other", "hint:"]);
    run("CREATE MATERIALIZED VIEW bronze.e AS SELECT _payload FROM bronze.e;").fails(2, &["bronze.e"]);
    let folder = tempfile::tempdir().unwrap();
    flash(folder.path(), "run --until-caught-up").fails(2, &["the project folder sql does not exist", "--project"]);
    flash(project(VIEW).path(), "run --source raw.e=csv:x").fails(2, &["--source raw.e=csv:x", "jsonl:PATH"]);
}

#[test]
fn a_project_runs_until_caught_up_and_is_asked() {
    let folder = project(VIEW);
    let run = flash(folder.path(), "run --until-caught-up --json").ok();
    assert_eq!(run.json()["records"], 2);
    assert!(run.stderr.contains("created bronze.e"), "{}", run.stderr);
    assert_eq!(
        sql(folder.path(), "lake", "SELECT count(*) AS n FROM bronze.e").ok().json(),
        serde_json::json!([{"n": 2}])
    );
    std::fs::write(folder.path().join("events/b.jsonl"), "{\"n\": 3}\n").unwrap();
    let again = flash(folder.path(), "run --until-caught-up --json").ok();
    assert_eq!(again.json()["records"], 1, "{}", again.stderr);
    let csv = ended(command(
        folder.path(),
        &["sql", "-c", "SELECT 1 AS a; SELECT count(*) AS n FROM bronze.e", "--format", "csv"],
    ));
    assert_eq!(csv.ok().stdout, "n\n3\n");

    let status = flash(folder.path(), "status --json").ok().json();
    assert_eq!((&status[0]["name"], &status[0]["rows"]), (&"bronze.e".into(), &3.into()));
    assert!(status[0]["location"].as_str().unwrap().contains("bronze/e"), "{status}");
    let explained = flash(folder.path(), "explain bronze.e").ok();
    assert!(explained.stdout.contains("append"), "{}", explained.stdout);
    let file = flash(folder.path(), "explain sql/bronze/e.sql --project sql").ok();
    assert!(file.stdout.contains("append"), "{}", file.stdout);
    flash(folder.path(), "refresh bronze.e --full").fails(2, &["cannot be recomputed from raw.e"]);
    flash(folder.path(), "refresh bronze.nothing").fails(2, &["bronze.nothing"]);
}

#[test]
fn a_project_is_checked_and_planned_before_it_is_applied() {
    let folder = project(VIEW);
    let path = folder.path();
    let above = "CREATE MATERIALIZED VIEW silver.e AS\nSELECT _payload FROM bronze.e;";
    std::fs::create_dir(path.join("sql/silver")).unwrap();
    std::fs::write(path.join("sql/silver/e.sql"), above).unwrap();
    let checked = flash(path, "check --json").ok().json();
    assert_eq!((&checked["views"][0]["name"], &checked["views"][0]["mode"]), (&"bronze.e".into(), &"append".into()));
    let new = flash(path, "plan");
    assert_eq!(new.code, 2, "{}", new.stderr);
    assert!(new.stdout.contains("+ bronze.e  new") && new.stdout.contains(": 3 new"), "{}", new.stdout);
    assert!(!path.join("lake").exists(), "a plan has made a lake");
    flash(path, "run --until-caught-up").ok();
    assert_eq!(flash(path, "plan").ok().stdout, "nothing changes: 3 unchanged\n");

    let other = above.replace("SELECT _payload", "SELECT _payload, 1 AS one");
    std::fs::write(path.join("sql/silver/e.sql"), &other).unwrap();
    let changed = flash(path, "plan");
    assert_eq!(changed.code, 2);
    for line in
        ["~ silver.e  changed", "- SELECT _payload FROM bronze.e;", "+ SELECT _payload, 1 AS one FROM bronze.e;"]
    {
        assert!(changed.stdout.contains(line), "no {line} in {}", changed.stdout);
    }
    assert!(changed.stdout.contains("bronze.e (2 rows, "), "{}", changed.stdout);
    let markdown = flash(path, "plan --markdown");
    assert!(markdown.stdout.contains("| `silver.e` | changed |") && markdown.stdout.contains("```diff"));

    // What has landed of a stream is nowhere else: a change of that view is refused, and nothing is touched.
    let bronze = VIEW.replace("SELECT _payload", "SELECT _payload, _shard_id");
    std::fs::write(path.join("sql/bronze/e.sql"), &bronze).unwrap();
    for verb in ["plan", "run --until-caught-up"] {
        flash(path, verb)
            .fails(2, &["bronze.e reads the stream raw.e", "would begin empty", "flash backfill bronze.e"]);
    }
    assert_eq!(sql(path, "lake", "SELECT count(*) AS n FROM silver.e").ok().json()[0]["n"], 2);

    std::fs::write(path.join("sql/bronze/e.sql"), bronze.replace("_shard_id", "_shard")).unwrap();
    std::fs::write(path.join("sql/raw/f.sql"), "CREATE EXTERNL TABLE raw.f").unwrap();
    let wrong = flash(path, "check");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    for words in ["sql/bronze/e.sql:3", "sql/raw/f.sql:1", "there are 2 mistakes in 4 files"] {
        assert!(wrong.stderr.contains(words), "no {words} in {}", wrong.stderr);
    }
}

#[test]
fn a_plan_is_applied_and_what_has_no_file_any_more_goes() {
    let folder = project(VIEW);
    let path = folder.path();
    let silver = "CREATE MATERIALIZED VIEW silver.e AS SELECT _payload FROM bronze.e";
    std::fs::create_dir(path.join("sql/silver")).unwrap();
    std::fs::write(path.join("sql/silver/e.sql"), silver).unwrap();
    // Before any event was read, and without reading one.
    flash(path, "apply").fails(2, &["nobody is there to be asked", "--yes"]);
    let made = flash(path, "apply --yes --json").ok();
    assert_eq!(made.json()["changes"].as_array().unwrap().len(), 3, "{}", made.stdout);
    assert_eq!(sql(path, "lake", "SELECT count(*) AS n FROM silver.e").ok().json()[0]["n"], 0);
    flash(path, "run --until-caught-up").ok();

    std::fs::write(path.join("sql/silver/e.sql"), format!("{silver} WHERE length(_payload) > 0")).unwrap();
    std::fs::write(
        path.join("sql/silver/n.sql"),
        "CREATE MATERIALIZED VIEW silver.n AS SELECT count(*) AS n FROM silver.e",
    )
    .unwrap();
    let id = flash(path, "plan --json").json()["id"].as_str().unwrap().to_string();
    flash(path, "apply --yes --plan 01234567").fails(4, &["not what plan 01234567 says", &id, "flash plan"]);
    let applied = flash(path, &format!("apply --yes --plan {id}")).ok();
    for words in
        ["~ silver.e  changed", "+ silver.n  new", "built  silver.e  2 rows", "views ready: 2; readers see them since"]
    {
        assert!(applied.stderr.contains(words), "no {words} in {}", applied.stderr);
    }
    std::fs::remove_file(path.join("sql/silver/n.sql")).unwrap();
    std::fs::write(path.join("events/b.jsonl"), "{\"n\": 3}\n").unwrap();
    assert!(flash(path, "run --until-caught-up").ok().stderr.contains("no file defines silver.n any more"));
    let difference = flash(path, "diff silver.n --json").ok().json();
    assert_eq!((&difference["came"], &difference["rows"][0]["change"]), (&1.into(), &"-".into()), "{difference}");
    let shown = flash(path, "diff silver.e").ok();
    assert!(shown.stdout.contains("│ +") && shown.stderr.contains(": 1 row came, 0 went; 1 shown"), "{}", shown.stderr);
    assert!(flash(path, "apply --yes").ok().stderr.contains("- silver.n  removed"));
    sql(path, "lake", "SELECT * FROM silver.n").fails(2, &["silver.n"]);
    let nothing = flash(path, "apply --json").ok();
    assert_eq!(
        (nothing.json()["built"].clone(), nothing.stderr.as_str()),
        (serde_json::json!([]), "nothing changes: 3 unchanged\n")
    );
}

#[test]
fn ordinary_tables_are_made_and_filled_in_a_lake_folder() {
    let folder = project(VIEW);
    flash(folder.path(), "run --until-caught-up").ok();
    let text = "CREATE TABLE app.t (a INT, b VARCHAR); INSERT INTO app.t VALUES (1, 'x'), (2, 'y'); SELECT a, b FROM app.t ORDER BY a";
    let rows = sql(folder.path(), "lake", text).ok().json();
    assert_eq!(rows, serde_json::json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]));
    sql(folder.path(), "lake", "SELECT nope FROM app.t").fails(2, &["nope"]);
    sql(folder.path(), "lake", "SELECT 1;\nSELEC 2").fails(2, &[":2:"]);
    sql(folder.path(), "elsewhere", "SELECT 1").fails(2, &["no lake at elsewhere", "--lake"]);
    sql(folder.path(), "events", "SELECT 1").fails(2, &["no lake at events"]);
}

#[test]
fn the_demo_shows_figures_whose_books_close_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "demo --once --json --events {EVENTS} --seed 5 --lake d --duplicates 1 --broken 1 --bad-fields 1 --late 1"
    );
    let first = flash(folder.path(), &line).ok().json();
    let count = |key: &str| first[key].as_u64().unwrap_or_else(|| panic!("{key}: {first}"));
    assert_eq!(count("records_put"), EVENTS.parse::<u64>().unwrap());
    assert_eq!(count("bronze_rows"), count("records_put"));
    assert_eq!(
        count("bronze_rows"),
        count("silver_rows") + count("quarantined") + count("dropped") + count("duplicates")
    );
    assert!(count("quarantined") > 0 && count("dropped") > 0 && count("duplicates") > 0, "{first}");
    assert_eq!(first["top_products"].as_array().unwrap().len(), 5);
    let second = flash(folder.path(), &line).ok().json();
    assert_eq!(first, second, "a second start changes nothing");
    let other = flash(folder.path(), "demo --once --json --events 50 --seed 6 --lake d").ok();
    assert!(other.stderr.contains("begun with --events 3000 --seed 5"), "{}", other.stderr);
    assert_eq!(first, other.json());
}

/// A running process that is ended with the test.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    seen: Vec<String>,
}

impl Running {
    fn start(folder: &Path, line: &str) -> Self {
        let mut command = command(folder, &line.split_whitespace().collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// The first line with `word`, from here on.
    fn line_with(&mut self, word: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.seen.push(line.clone());
            if line.contains(word) {
                return line;
            }
        }
        panic!("no line with \"{word}\": {}", self.seen.join("\n"));
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap().success()
        );
    }

    fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The address in a line such as `Flight SQL  grpc://127.0.0.1:50051   (...)`.
    fn flight(&mut self) -> String {
        let line = self.line_with("grpc://");
        let at = line.find("grpc://").unwrap();
        line[at..].split_whitespace().next().unwrap().to_string()
    }
}

#[test]
fn a_served_lake_is_asked_over_flight_sql_and_in_its_folder_and_stops_cleanly() {
    let folder = project(VIEW);
    let mut server = Running::start(folder.path(), "run --flight 127.0.0.1:0 --http 127.0.0.1:0");
    let url = server.flight();
    // The views may take a moment to hold what the files hold.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let text = "SELECT count(*) AS n FROM bronze.e";
        let served =
            ended(command(folder.path(), &["sql", "--server", &url, "--format", "json", "-c", text])).ok().json();
        if served[0]["n"] == 2 {
            assert_eq!(sql(folder.path(), "lake", text).ok().json(), served, "the folder is read beside the server");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{served}");
    }
    server.signal("TERM");
    assert_eq!(server.code(), 0);
    let gone = ended(command(folder.path(), &["sql", "--server", &url, "-c", "SELECT 1"]));
    gone.fails(1, &["no server answers at", "hint:"]);
}

#[test]
fn ports_that_cannot_be_had_are_named() {
    let folder = project(VIEW);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let line = format!("run --flight 127.0.0.1:{port} --http 127.0.0.1:0");
    flash(folder.path(), &line).fails(1, &["--flight", &format!("port {port}"), "in use"]);
    flash(folder.path(), "run --http 0.0.0.0:8080 --flight 127.0.0.1:0").fails(2, &["--http", "loopback"]);
    assert!(!folder.path().join("lake").exists(), "nothing may be started");
}

#[test]
fn an_endpoint_that_does_not_answer_is_named() {
    let folder = project("CREATE MATERIALIZED VIEW bronze.e AS SELECT _payload FROM raw.e;");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = "run --until-caught-up --source raw.e=kinesis:E_com";
    let mut unreachable = command(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    unreachable
        .env("AWS_ENDPOINT_URL", format!("http://{closed}"))
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_REGION", "ap-south-1");
    let unreachable = ended(unreachable);
    assert_ne!(unreachable.code, 0);
    unreachable.fails(unreachable.code, &["E_com"]);
}

#[test]
fn a_lake_that_is_a_file_is_named() {
    let folder = project(VIEW);
    std::fs::write(folder.path().join("lake"), "").unwrap();
    flash(folder.path(), "run --until-caught-up").fails(3, &["lake"]);
}

/// As root, permissions bind nobody: then run a copy of the binary as somebody else.
#[test]
fn a_read_only_lake_is_named() {
    let folder = project(VIEW);
    let lake = folder.path().join("lake");
    std::fs::create_dir(&lake).unwrap();
    permissions(&lake, 0o555);
    permissions(folder.path(), 0o755);
    let mut command = command(folder.path(), &["run", "--until-caught-up"]);
    if is_root() {
        let copy = folder.path().join("flash-copy");
        std::fs::copy(env!("CARGO_BIN_EXE_flash"), &copy).unwrap();
        let mut other = Command::new(copy);
        other
            .args(["run", "--until-caught-up"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .uid(65_534)
            .gid(65_534);
        command = other;
    }
    ended(command).fails(3, &["lake", "writ"]);
}

fn permissions(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    String::from_utf8_lossy(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0"
}

/// A file system of 3 MiB, in a mount namespace of its own; where there are no such namespaces, nothing is tested.
#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let folder = project(VIEW);
    std::fs::create_dir(folder.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=3m tmpfs small || exit 99; \
                  \"$FLASH\" demo --once --events 200000 --lake small/lake 2>err >/dev/null; echo $? > code; \
                  ls small/lake/_flash/published > published";
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .current_dir(folder.path())
        .env("FLASH", env!("CARGO_BIN_EXE_flash"))
        .stdin(Stdio::null())
        .status();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespaces here");
        return;
    }
    let (code, stderr) = (read("code").trim().parse().unwrap(), read("err"));
    Ended { code, stdout: String::new(), stderr }.fails(3, &["No space left", "hint: free disk space"]);
}

#[test]
fn a_corrupt_file_is_named() {
    let folder = project(VIEW);
    flash(folder.path(), "run --until-caught-up").ok();
    let data = parquet_files(&folder.path().join("lake/bronze"));
    assert!(!data.is_empty());
    for file in &data {
        let size = std::fs::metadata(file).unwrap().len() as usize;
        std::fs::write(file, vec![b'?'; size]).unwrap();
    }
    let ended = sql(folder.path(), "lake", "SELECT _payload FROM bronze.e");
    ended.fails(3, &[data[0].file_name().unwrap().to_str().unwrap()]);
    let log = folder.path().join("lake/_flash/published");
    let newest = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    std::fs::write(&newest, "{").unwrap();
    flash(folder.path(), "status").fails(3, &["_flash/published"]);
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            out.push(path);
        }
    }
    out
}

//! Project: the files `sql/<schema>/<name>.sql` as a list of objects.
//!
//! ```text
//!  sql/                                one object a file; the path is its name
//!    raw/events.sql      ─▶ raw.events       CREATE EXTERNAL TABLE ... STORED AS KINESIS | JSONL
//!    ref/cities.sql      ─▶ ref.cities       CREATE EXTERNAL TABLE ... STORED AS CSV LOCATION 'cities.csv'
//!    ref/cities.csv         (its data)
//!    silver/events.sql   ─▶ silver.events    CREATE MATERIALIZED VIEW ...; and who sees what of it
//!    tests/money.slt        a test: no object; beside the SQL, or in a folder of its own
//!
//!  load(folder) ─┐
//!                ├─▶ object(): parse, one object, name = path, CSV beside it ─▶ ProjectObject
//!  embedded()  ──┘   (the product's own sql/, inside the binary)
//! ```
//!
//! Files say what should be; the engine finds the order (by what is built on what) and the difference.

pub mod embedded;
pub mod skeleton;

use std::path::{Path, PathBuf};

use crate::engine::ProjectObject;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, Statement};

/// The most objects that a project may have: beyond it the path is surely not a project.
const OBJECTS_MAX: usize = 10_000;

/// The largest SQL or CSV file of a project, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Read a project folder.
///
/// # Errors
/// `Config` for a folder that is missing, empty or laid out differently; `Syntax` and `Definition` for what stands
/// in the files; `Storage` for a file that cannot be read.
pub fn load(folder: &Path) -> Result<Vec<ProjectObject>> {
    files(folder)?.iter().map(|file| load_file(file)).collect()
}

/// The files of a project folder.
///
/// # Errors
/// `Config` for a folder that is missing, empty or laid out differently; `Storage`.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for schema in entries(folder).map_err(|error| no_folder(folder, &error))? {
        if schema.extension().is_some_and(|extension| extension == "sql") && schema.is_file() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{} is not in the folder of a schema", schema.display()),
            )
            .with_hint("a project is laid out as <schema>/<name>.sql, such as silver/events.sql"));
        }
        if !schema.is_dir() {
            continue;
        }
        for file in entries(&schema).map_err(|error| unreadable(&schema, &error))? {
            if file.extension().is_some_and(|extension| extension == "sql") {
                files.push(file);
            }
            if files.len() > OBJECTS_MAX {
                return Err(Error::new(ErrorKind::Config, format!("{} has too many SQL files", folder.display()))
                    .with_detail(format!("the limit is {OBJECTS_MAX}")));
            }
        }
    }
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("no SQL files in {}", folder.display()))
            .with_hint("a project is laid out as <schema>/<name>.sql, such as silver/events.sql"));
    }
    Ok(files)
}

/// The tests of a project folder, or of any folder: files `*.slt`, at any depth, in order.
///
/// # Errors
/// `Config` for a folder that is missing, or has too many of them.
pub fn tests(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in entries(&folder).map_err(|error| no_folder(&folder, &error))? {
            match path.is_dir() {
                // A link may lead round in a circle.
                true if !path.is_symlink() => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "slt") => files.push(path),
                _ => {}
            }
        }
        if files.len() > OBJECTS_MAX {
            return Err(Error::new(ErrorKind::Config, format!("{} has too many tests", folder.display()))
                .with_detail(format!("the limit is {OBJECTS_MAX}")));
        }
    }
    files.sort();
    Ok(files)
}

/// Read one file of a project, whose name is its last folder and its own name.
///
/// # Errors
/// As `load`.
pub fn load_file(file: &Path) -> Result<ProjectObject> {
    object(&file.to_string_lossy(), &text(file)?, |csv| read(&file.with_file_name(csv)))
}

/// The text of a file of a project.
///
/// # Errors
/// `Config` for what is no text, or too large; `Storage` for a file that cannot be read.
pub fn text(file: &Path) -> Result<String> {
    String::from_utf8(read(file)?).map_err(|error| {
        Error::new(ErrorKind::Config, format!("{} is not UTF-8 text", file.display()))
            .with_detail(format!("byte {} is not", error.utf8_error().valid_up_to()))
    })
}

/// One object from the text of its file; `read` gives the bytes of a CSV beside it.
fn object(file: &str, text: &str, read: impl Fn(&str) -> Result<Vec<u8>>) -> Result<ProjectObject> {
    let parsed = parser::parse_object_file(text, Some(file))?;
    let name = &parsed.name;
    let data = match &parsed.object.statement {
        Statement::CreateReference(reference) => Some(read(beside(file, &reference.location)?)?),
        _ => None,
    };
    if let Some(of_path) = name_of(file).filter(|of_path| of_path != name) {
        return Err(Error::new(ErrorKind::Definition, format!("{file} defines {name}, and not {of_path}"))
            .with_hint(format!("move it to {}/{}.sql, or rename the object", name.schema, name.name)));
    }
    Ok(ProjectObject { file: Some(file.to_string()), sql: text.to_string(), data })
}

/// `silver.events` of `sql/silver/events.sql`; `None` for a path without a folder.
fn name_of(file: &str) -> Option<TableName> {
    let mut parts = file.rsplit(['/', '\\']);
    let name = parts.next()?.strip_suffix(".sql")?;
    let schema = parts.next().filter(|schema| !schema.is_empty() && *schema != ".")?;
    Some(TableName::new(schema, name))
}

/// The LOCATION of a CSV, which must be a path below the folder of its SQL file.
fn beside<'a>(file: &str, location: &'a str) -> Result<&'a str> {
    let path = location.strip_prefix("./").unwrap_or(location);
    let inside = !path.starts_with('/') && !path.contains("://") && !path.split(['/', '\\']).any(|part| part == "..");
    if inside {
        return Ok(path);
    }
    Err(Error::new(ErrorKind::Definition, format!("{file}: the CSV \"{location}\" is not beside its SQL file"))
        .with_hint("give LOCATION as a path below the folder of the SQL file, such as 'cities.csv'"))
}

/// The entries of a folder in order, hidden ones left out.
fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Error::new(ErrorKind::Config, format!("{} is too large", file.display()))
            .with_detail(format!("it has {size} bytes; the limit is {FILE_BYTES_MAX}")));
    }
    std::fs::read(file).map_err(|error| unreadable(file, &error))
}

fn no_folder(folder: &Path, error: &std::io::Error) -> Error {
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => format!("the project folder {} does not exist", folder.display()),
        std::io::ErrorKind::NotADirectory => format!("{} is not a folder", folder.display()),
        _ => format!("the project folder {} cannot be read: {error}", folder.display()),
    };
    Error::new(ErrorKind::Config, message).with_hint("name the folder that holds <schema>/<name>.sql with --project")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("{} cannot be read", path.display())).with_detail(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VIEW: &str = "-- said first\nCREATE MATERIALIZED VIEW gold.x AS SELECT 1 AS one FROM silver.events;\n";

    fn project(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn error(files: &[(&str, &[u8])]) -> Error {
        load(project(files).path()).unwrap_err()
    }

    #[test]
    fn a_project_is_read_with_its_csv() {
        let csv =
            "CREATE EXTERNAL TABLE ref.c (a VARCHAR) STORED AS CSV LOCATION './c.csv' OPTIONS ('has_header' 'true')";
        let folder = project(&[
            ("gold/x.sql", VIEW.as_bytes()),
            ("ref/c.sql", csv.as_bytes()),
            ("ref/c.csv", b"a\n1\n"),
            (".git/a/b.sql", b"no"),
            ("README.md", b"no"),
            ("tests/deep/b.slt", b"a test"),
            ("gold/x.slt", b"a test"),
            (".git/c.slt", b"no"),
        ]);
        let tests = tests(folder.path()).unwrap();
        let tests = tests.iter().map(|file| file.strip_prefix(folder.path()).unwrap().to_str().unwrap());
        assert_eq!(tests.collect::<Vec<_>>(), ["gold/x.slt", "tests/deep/b.slt"]);
        let objects = load(folder.path()).unwrap();
        assert_eq!(objects.len(), 2);
        assert!(objects[0].file.as_ref().unwrap().ends_with("gold/x.sql"));
        assert_eq!((objects[0].sql.as_str(), &objects[0].data), (VIEW, &None));
        assert_eq!(objects[1].data.as_deref(), Some(b"a\n1\n".as_slice()));
    }

    #[test]
    fn each_mistake_in_the_layout_is_named() {
        let missing = load(Path::new("no/such/folder")).unwrap_err();
        assert!(missing.message().contains("does not exist"), "{missing}");
        assert!(error(&[]).message().contains("no SQL files"));
        assert!(error(&[("x.sql", b"")]).message().contains("not in the folder of a schema"));
        let wrong_name = error(&[("gold/y.sql", VIEW.as_bytes())]);
        assert!(wrong_name.message().contains("defines gold.x, and not gold.y"), "{wrong_name}");
        assert!(wrong_name.hint().unwrap().contains("gold/x.sql"));
    }

    #[test]
    fn each_mistake_in_a_file_is_named() {
        assert!(error(&[("gold/x.sql", b"\xff\xfe")]).message().contains("not UTF-8"));
        assert!(error(&[("gold/x.sql", b"-- nothing")]).message().contains("no statement"));
        let two = format!("{VIEW}{VIEW}");
        assert!(error(&[("gold/x.sql", two.as_bytes())]).message().contains("2 statements"));
        assert!(error(&[("gold/x.sql", b"SELECT 1")]).message().contains("does not define"));
        let away = b"CREATE EXTERNAL TABLE ref.c (a VARCHAR) STORED AS CSV LOCATION '../c.csv'";
        assert!(error(&[("ref/c.sql", away)]).message().contains("not beside"));
        let gone = b"CREATE EXTERNAL TABLE ref.c (a VARCHAR) STORED AS CSV LOCATION 'c.csv'";
        assert_eq!(error(&[("ref/c.sql", gone)]).kind(), ErrorKind::Storage);
    }
}

//! Bundles the dashboard's page into the binary.
//!
//! ```text
//!   src/dashboard/web ─copied─▶ OUT_DIR/web ──npm ci, esbuild, zlib──▶ OUT_DIR/web/out ─┐  with charts, compressed
//!                                  └─────────── without npm ───────────▶ as they are ────┴─▶ OUT_DIR/assets.rs,
//! ```                                                                                         for server::http
//!
//! What is made names no place but OUT_DIR, so that clones of the project can share what is compiled.
//!
//! Without npm (or without a network to fetch the packages from) the build goes on with a warning: the page then shows
//! the same numbers without charts. Nothing runs again while no file of the page has changed.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script everything in its environment")]

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const WEB: &str = "src/dashboard/web";

/// Set to anything, the page is built as on a machine without npm.
const PLAIN: &str = "FLASH_DASHBOARD_PLAIN";

/// The lock file that was installed last, beside what it has brought.
const INSTALLED: &str = "installed";

/// What is served of the page as it stands; a bundle has its own list.
const PAGES: [&str; 4] = ["icon.svg", "index.html", "login.html", "operations.html"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={WEB}");
    println!("cargo:rerun-if-env-changed={PLAIN}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let web = out.join("web");
    copy(&PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(WEB), &web)?;
    let bundled = if env::var_os(PLAIN).is_some() { Err("asked for".into()) } else { bundle(&web) };
    let files = match &bundled {
        Ok(folder) => listed(folder, |_| true)?,
        Err(reason) => {
            println!("cargo:warning=the dashboard is built without charts (tables instead): {reason}");
            listed(&web, |name| name.ends_with(".css") || name.ends_with(".js") && name != "charts.js")?
        }
    };
    let pages = PAGES.iter().map(|name| web.join(name)).filter(|path| path.exists());
    fs::write(out.join("assets.rs"), table(&out, &files, &pages.collect::<Vec<_>>(), bundled.is_ok())?)?;
    Ok(())
}

/// The files of the page, without those of an earlier build.
fn copy(web: &Path, work: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(work)?;
    for path in listed(work, |name| name != INSTALLED)? {
        fs::remove_file(path)?;
    }
    for path in listed(web, |_| true)? {
        fs::copy(&path, work.join(path.file_name().unwrap_or_default()))?;
    }
    // npm's own settings come along, so that it does what it does in the folder of the page.
    fs::copy(web.join(".npmrc"), work.join(".npmrc"))?;
    Ok(())
}

/// Install what the lock file names, and bundle; the folder of the result.
fn bundle(work: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let lock = fs::read_to_string(work.join("package-lock.json"))?;
    let installed = work.join(INSTALLED);
    if fs::read_to_string(&installed).ok().as_deref() != Some(lock.as_str()) {
        let npm = ["ci", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=30000"];
        run(Command::new("npm").args(npm).current_dir(work))?;
        fs::write(&installed, lock)?;
    }
    let made = work.join("out");
    if made.exists() {
        fs::remove_dir_all(&made)?;
    }
    fs::create_dir_all(&made)?;
    run(Command::new("node").arg("bundle.mjs").arg(work).arg(&made).current_dir(work))?;
    Ok(made)
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&done.stderr);
    let last = told.lines().filter(|line| !line.trim().is_empty()).take(3).collect::<Vec<_>>().join("; ");
    Err(format!("{name} failed ({}): {last}", done.status).into())
}

/// The files of a folder in order, hidden ones and folders left out.
fn listed(folder: &Path, keep: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_file() && !name.starts_with('.') && keep(&name) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Rust text: `ASSETS`, `BUILD` (a hash of them all) and `CHARTS`.
fn table(out: &Path, files: &[PathBuf], pages: &[PathBuf], charts: bool) -> Result<String, Box<dyn Error>> {
    let mut text = String::from("pub(super) static ASSETS: &[Asset] = &[\n");
    let mut hasher = DefaultHasher::new();
    let names = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let compressed = |name: &str| name.ends_with(".gz") || name.ends_with(".br");
    let bytes = |path: &Path| {
        let path = path.strip_prefix(out).unwrap_or(path).to_string_lossy().into_owned();
        format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{path}\"))")
    };
    for path in files.iter().filter(|path| !compressed(&names(path))).chain(pages) {
        hasher.write(&fs::read(path)?);
        let name = names(path);
        let beside = |extension: &str| {
            let path = path.with_file_name(format!("{name}.{extension}"));
            if path.exists() { format!("Some({})", bytes(&path)) } else { "None".to_string() }
        };
        let (gzip, brotli) = (beside("gz"), beside("br"));
        let plain = bytes(path);
        writeln!(text, "    Asset {{ name: {name:?}, plain: {plain}, gzip: {gzip}, brotli: {brotli} }},")?;
    }
    writeln!(text, "];\npub(super) const BUILD: &str = \"{:016x}\";", hasher.finish())?;
    writeln!(text, "pub(super) const CHARTS: bool = {charts};")?;
    Ok(text)
}

//! Where a lake may be.

use flashcommerce::error::ErrorKind;
use flashcommerce::storage::{DeltaStorage, Storage, StorageOptions};

use super::lake::{append, rows, schema};

async fn refused(url: &str, kind: ErrorKind, word: &str) {
    let error = DeltaStorage::open(url, StorageOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(word) && error.hint().is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_made_and_found_again() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("new lake");
    let text = path.to_str().unwrap();
    for (n, url) in [text.to_string(), format!("file://{}", text.replace(' ', "%20"))].iter().enumerate() {
        let lake = DeltaStorage::open(url, StorageOptions::default()).await.unwrap();
        assert_eq!(lake.root().scheme(), "file");
        lake.create("a/t", &schema(), &[], None).await.unwrap();
        append(&lake, "a/t", Some(n as u64 + 1), &[rows(None, 0..2)]).await;
    }
    assert!(path.join("a/t/_delta_log/00000000000000000002.json").exists());
    let left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_a_lake() {
    let lake = DeltaStorage::open("memory:", StorageOptions::default()).await.unwrap();
    lake.create("t", &schema(), &[], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_lake_is_refused_with_a_hint() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(file.to_str().unwrap(), ErrorKind::Storage, "is a file").await;
    refused(file.join("lake").to_str().unwrap(), ErrorKind::Storage, "file").await;
    refused(parent.path().join("none/lake").to_str().unwrap(), ErrorKind::Storage, "none/lake").await;
    refused("/proc/lake", ErrorKind::Storage, "/proc/lake").await;
    refused("ftp://host/lake", ErrorKind::Config, "ftp").await;
    refused("s3:///lake", ErrorKind::Config, "bucket").await;
    let read_only = parent.path().join("read-only");
    std::fs::create_dir(&read_only).unwrap();
    let mut permissions = std::fs::metadata(&read_only).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&read_only, permissions).unwrap();
    // Nothing is read-only for root.
    if std::fs::write(read_only.join("probe"), "").is_err() {
        refused(read_only.to_str().unwrap(), ErrorKind::Storage, "writable").await;
    }
}

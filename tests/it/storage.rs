//! Conformance of the lake over every object store: a local folder, memory, and S3 (where FLASH_S3 says that one is).
//!
//! Each case takes a fresh store and opens as many lakes over it as there are processes in its story.

mod commits;
mod failures;
mod lake;
mod location;
mod rows;
mod stores;
mod upkeep;

/// One test per case and store.
macro_rules! on_every_store {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod local_folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let folder = tempfile::tempdir().unwrap();
                let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
                super::$module::$case(std::sync::Arc::new(store)).await;
            })*
        }
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(std::sync::Arc::new(object_store::memory::InMemory::new())).await;
            })*
        }
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(store) = super::stores::s3(stringify!($case)).await {
                    super::$module::$case(store).await;
                }
            })*
        }
    };
}

on_every_store![
    rows::creation_is_idempotent,
    rows::every_type_comes_back,
    rows::partitions_come_back,
    rows::a_query_reads_only_files_that_may_match,
    rows::counts_and_bounds_come_from_statistics,
    rows::a_nan_is_found,
    rows::a_column_that_was_added_later_is_null,
    rows::long_files_are_cut,
    commits::an_epoch_is_committed_once,
    commits::the_version_of_an_epoch_is_found_after_a_restart,
    commits::two_writers_lose_nothing,
    commits::one_of_two_overwrites_wins,
    commits::an_overwrite_follows_a_compaction,
    commits::older_versions_stay,
    commits::changes_between_versions,
    commits::a_reader_sees_another_writer,
    failures::a_lost_answer_is_recognised,
    failures::a_put_that_fails_is_tried_again,
    failures::a_full_disk_leaves_the_table_as_it_was,
    failures::damaged_files_are_named,
    failures::a_lost_record_answer_counts_as_written,
    failures::only_one_of_sixteen_puts_wins,
    upkeep::a_checkpointed_table_opens_the_same,
    upkeep::compaction_changes_no_row,
    upkeep::compaction_keeps_what_bounds_leave_out,
    upkeep::vacuum_takes_only_what_is_due,
    upkeep::the_log_is_cleaned_behind_what_a_reader_needs,
    upkeep::what_is_removed_in_great_numbers_is_vacuumed,
    upkeep::state_comes_back,
    upkeep::records_are_listed_newest_first,
];

//! S3, by a server that speaks its protocol (`server.rs`).

use std::time::Duration;

use highwater_engine::checkpoint::RemoteSettings;

use super::fencing::{a_second_run_in_the_same_folder_is_refused, the_newer_run_wins};
use super::server::{Fault, S3Server};
use super::state::{Place, large_state_comes_back_whole};
use crate::crash::{Kills, tables_survive};

/// How many kills; more by `HIGHWATER_KILLS`.
const KILLS: usize = 12;

#[test]
fn tables_survive_kill_at_any_moment_with_the_checkpoint_on_s3() {
    let server = S3Server::start();
    server.fail_every(29, Fault::Unavailable);
    server.fail_every(41, Fault::AnswerLost);
    let environment = server.environment();
    // A start asks the store some two hundred times: it must be able to get somewhere before it is killed.
    tables_survive(&Kills { count: KILLS, within: Duration::from_millis(2500), environment: &environment });
    assert!(server.requests() > 1000, "{} requests: the checkpoint was elsewhere", server.requests());
    assert!(server.faults() > 30, "{} faults", server.faults());
}

#[test]
fn runs_on_two_machines_and_on_one() {
    the_newer_run_wins(&S3Server::start().environment());
    a_second_run_in_the_same_folder_is_refused(&S3Server::start().environment());
}

#[test]
fn large_state_goes_up_in_parts_and_comes_back_whole_from_s3() {
    let server = S3Server::start();
    server.fail_every(23, Fault::Unavailable);
    server.fail_every(37, Fault::AnswerLost);
    // The smallest part S3 takes.
    let remote = RemoteSettings { part_bytes: 5 << 20, ..RemoteSettings::default() };
    let place = Place { location: "s3://bucket/state-test".to_owned(), options: server.options(), remote };
    large_state_comes_back_whole(&place, || {});
    // An upload in parts is a POST to begin, one to end, and a PUT for each part.
    assert!(server.requests_of("POST") >= 4, "{} POSTs", server.requests_of("POST"));
    assert!(server.faults() > 3, "{} faults in {} requests", server.faults(), server.requests());
    assert_eq!(server.objects("state-test/state"), ["2.snapshot"], "what a prune leaves");
}
